"""The recipes of super-resolution: the options that they share, and how a run is set up."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from types import MappingProxyType
from typing import Any, Literal

from gankit.training.choices import ADVERSARIAL_NAMES, CONTENT_NAMES, DEGRADATIONS, DISCRIMINATORS, RELATIVISTIC
from gankit.training.recipes.base import (
    COUNT,
    FOLDER,
    NUMBER,
    PART,
    RATE,
    SHARE,
    WEIGHT,
    Choice,
    Flag,
    Job,
    Option,
    Place,
    Recipe,
    RunDefaults,
    Text,
    Two,
    with_defaults,
)
from gankit.training.schedules import SCHEDULES
from gankit.training.systems.superres_options import (
    EDSR,
    EDSR_PATCH,
    AdversarialOptions,
    ContentOptions,
    PhotoData,
)

Name = Literal["srresnet", "edsr", "srgan"]

EXAMPLE = "--data photos/ --validation val/ --steps 300"
_OF_DATA = ("photos", "validation", "patch", "synthetic", "degradation")
_MODEL = ("blocks", "channels")
_DATA = (
    Option(
        "photos",
        FOLDER,
        "Folder of the training images; may be given several times.",
        required=True,
        switch="data",
        multiple=True,
    ),
    Option("validation", FOLDER, "Folder of the validation images.", required=True),
    Option("patch", COUNT, "Side of a low-resolution patch in pixels."),
    Option(
        "degradation",
        Choice(DEGRADATIONS),
        "What the low-resolution patches and validation images go through: 'clean' is the reduction alone, 'photo' "
        "adds blur, noise and JPEG to most of them.",
    ),
    Option("synthetic", NUMBER, "Number of generated images of text and lines to add to the training images."),
)
_NETWORK = (
    Option("scale", Choice((2, 4, 8)), "Scale factor.", default_text="4, or that of --init"),
    Option("blocks", COUNT, "Number of residual blocks.", default_text="16, or that of --init"),
    Option("channels", COUNT, "Width of the body.", default_text="64, or that of --init"),
    Option("initial", Text(), "Start from these weights: a model's name or a file.", switch="init"),
    Option("compile", Flag(), "Compile the generator with torch.compile: a slow start, then faster steps on a GPU."),
)
_SRRESNET = (
    Option(
        "norm",
        Choice(("frozen", "batch")),
        "SRResNet's BatchNorm: 'frozen' keeps only its bias, 'batch' trains it as published.",
    ),
    Option("inner_lr", RATE, "Muon's learning rate, for SRResNet's body; Adam trains the rest."),
)
_CONTENT = (
    Option("lr", RATE, "Adam's learning rate."),
    Option("betas", Two(SHARE), "Adam's decay rates for the mean of the gradients and of their squares."),
    Option("weight_decay", WEIGHT, "L2 penalty on the weights that Adam trains."),
    Option("schedule", Choice(tuple(SCHEDULES)), "Schedule of the learning rates."),
    Option("warmup", NUMBER, "Steps over which the learning rates rise from 0."),
    Option(
        "final_rate",
        PART,
        "Share of the learning rates that is left at the last step.",
        default_text="that of the schedule",
    ),
    Option("content", Choice(CONTENT_NAMES), "Content loss: the distance between two images."),
    Option("mse_share", PART, "Share of the steps, at the end, whose content loss is the squared error."),
)
_ADVERSARIAL = (
    Option("content_weight", WEIGHT, "Weight of the content loss."),
    Option(
        "adversarial",
        Choice((RELATIVISTIC, *ADVERSARIAL_NAMES)),
        "Adversarial loss.",
        default_text="relativistic; nonsaturating for a U-Net",
    ),
    Option("adversarial_weight", WEIGHT, "Weight of the adversarial loss in the generator's loss."),
    Option(
        "adversarial_warmup",
        NUMBER,
        "Steps of the generator over which the weight of the adversarial loss rises from 0.",
        default_text="0; 1000 for a U-Net",
    ),
    Option("smooth", SHARE, "One-sided label smoothing: the target of real images is 1 minus this value."),
    Option("perceptual_weight", WEIGHT, "Weight of the perceptual loss."),
    Option("consistency_weight", WEIGHT, "Weight of the distance between the output and the target, both reduced."),
    Option("head_start", NUMBER, "First steps in which only the discriminator is trained."),
    Option(
        "discriminator",
        Choice(DISCRIMINATORS),
        "Discriminator: 'vgg' judges the image, 'unet' every pixel.",
        default_text="vgg; unet for EDSR",
    ),
    Option("discriminator_channels", COUNT, "Width of the discriminator's first stage."),
    Option(
        "discriminator_norm",
        Choice(("spectral", "batch")),
        "Normalisation in the 'vgg' discriminator: 'spectral' limits its slope, 'batch' is as published.",
    ),
    Option("discriminator_lr", RATE, "Learning rate of the discriminator."),
    Option("discriminator_steps", COUNT, "Discriminator steps per generator step."),
    Option(
        "instance_noise",
        WEIGHT,
        "Standard deviation of the noise added to the discriminator's input; it falls linearly to 0.",
    ),
    Option("r1_weight", WEIGHT, "Weight of the R1 penalty; 0 turns it off."),
    Option("penalty_weight", WEIGHT, "Weight of the gradient penalty; 0 turns it off."),
    Option("clip", WEIGHT, "Clip the discriminator's weights to ± this value; 0 turns clipping off."),
    Option(
        "vgg_weights",
        Place(exists=False, file=True),
        "File with VGG19's weights for the perceptual loss.",
        default_text="the discriminator's own features",
    ),
)


def _with_text(options: Iterable[Option], texts: Mapping[str, str]) -> Iterator[Option]:
    """The options, some of which show another default."""
    for option in options:
        yield replace(option, default_text=texts.get(option.name, option.default_text))


@dataclass(frozen=True)
class _Stage:
    """What the recipes of the family differ in.

    Attributes:
        options: of the command.
        source: the dataclass that states their defaults.
        preset: defaults that differ from those.
        adversarial: it has a discriminator.
    """

    options: tuple[Option, ...]
    source: type
    preset: Mapping[str, Any] = field(default_factory=dict)
    adversarial: bool = False


_STAGES: Mapping[str, _Stage] = MappingProxyType(
    {
        "srresnet": _Stage((*_DATA, *_NETWORK, *_SRRESNET, *_CONTENT), ContentOptions),
        "edsr": _Stage(
            (*_DATA, *_with_text(_NETWORK, {"blocks": "8, or that of --init"}), *_CONTENT),
            ContentOptions,
            {**EDSR, "patch": EDSR_PATCH},
        ),
        "srgan": _Stage(
            (*_DATA, *_NETWORK, *_SRRESNET, *_CONTENT, *_ADVERSARIAL), AdversarialOptions, adversarial=True
        ),
    }
)


def stage(name: Name, summary: str, example: str, description: str) -> Recipe:
    """The recipe of a stage.

    Args:
        name: of the recipe.
        summary: one line.
        example: options that run in minutes.
        description: what else its help page says.
    """
    own = _STAGES[name]
    others = () if own.adversarial else _ADVERSARIAL
    return Recipe(
        name,
        summary,
        example,
        tuple(with_defaults(own.options, PhotoData, own.source, preset=own.preset)),
        partial(_train, name),
        RunDefaults(20_000, batch=16),
        description,
        unit="dB",
        elsewhere={option.flag: "srgan" for option in others},
    )


def _train(name: Name, job: Job, given: Mapping[str, Any]) -> dict[str, float]:
    from gankit.training.superres import train_super_resolution

    place = {each: given[each] for each in _OF_DATA if each in given}
    if name == "edsr":
        place.setdefault("patch", EDSR_PATCH)
    data = PhotoData(**place, batch=job.batch, workers=job.workers, seed=job.seed)
    own = {*_OF_DATA, *_MODEL, "initial"}
    options = {each: value for each, value in given.items() if each not in own}
    options["model"] = {each: given[each] for each in _MODEL if each in given}
    return train_super_resolution(
        name,
        data,
        job.plan,
        device=job.device,
        initial=given.get("initial"),
        options=options,
        notify=job.notify,
    )
