"""The two stages of super-resolution: the options that they share, and how a run is set up."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, Literal

from gankit.training.choices import ADVERSARIAL_NAMES, CONTENT_NAMES, RELATIVISTIC
from gankit.training.recipes.base import (
    COUNT,
    FOLDER,
    NUMBER,
    RATE,
    SHARE,
    WEIGHT,
    Choice,
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
from gankit.training.systems.superres_options import AdversarialOptions, ContentOptions, PhotoData

EXAMPLE = "--data photos/ --validation val/ --steps 300"
_OF_DATA = ("photos", "validation", "patch", "synthetic")
_MODEL = ("blocks", "channels")
_SHARED = (
    Option("photos", FOLDER, "Folder of the training images.", required=True, switch="data"),
    Option("validation", FOLDER, "Folder of the validation images.", required=True),
    Option("patch", COUNT, "Side of a low-resolution patch in pixels."),
    Option("scale", Choice((2, 4, 8)), "Scale factor.", default_text="4, or that of --init"),
    Option("blocks", COUNT, "Number of residual blocks.", default_text="16, or that of --init"),
    Option("channels", COUNT, "Width of the body.", default_text="64, or that of --init"),
    Option("initial", Text(), "Start from these weights: a model's name or a file.", switch="init"),
    Option(
        "norm",
        Choice(("frozen", "batch")),
        "BatchNorm: 'frozen' keeps only its bias, 'batch' trains it as published.",
    ),
    Option("lr", RATE, "Adam's learning rate, for the first and last layers and the biases."),
    Option("inner_lr", RATE, "Muon's learning rate, for the body."),
    Option("betas", Two(SHARE), "Adam's decay rates for the mean of the gradients and of their squares."),
    Option("weight_decay", WEIGHT, "L2 penalty on the weights that Adam trains."),
    Option("schedule", Choice(tuple(SCHEDULES)), "Schedule of the learning rates."),
    Option("warmup", NUMBER, "Steps over which the learning rates rise from 0."),
    Option("content", Choice(CONTENT_NAMES), "Content loss: the distance between two images."),
)
_ADVERSARIAL = (
    Option("content_weight", WEIGHT, "Weight of the content loss."),
    Option("adversarial", Choice((RELATIVISTIC, *ADVERSARIAL_NAMES)), "Adversarial loss."),
    Option("adversarial_weight", WEIGHT, "Weight of the adversarial loss in the generator's loss."),
    Option("smooth", SHARE, "One-sided label smoothing: the target of real images is 1 minus this value."),
    Option("perceptual_weight", WEIGHT, "Weight of the perceptual loss."),
    Option("consistency_weight", WEIGHT, "Weight of the distance between the output, reduced again, and the input."),
    Option("head_start", NUMBER, "First steps in which only the discriminator is trained."),
    Option("discriminator_channels", COUNT, "Width of the discriminator's first stage."),
    Option(
        "discriminator_norm",
        Choice(("spectral", "batch")),
        "Normalisation in the discriminator: 'spectral' limits its slope, 'batch' is as published.",
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
_SYNTHETIC = Option("synthetic", NUMBER, "Number of generated images of text and lines to add to the training images.")


def stage(
    name: Literal["srresnet", "srgan"], summary: str, example: str, description: str, *, adversarial: bool
) -> Recipe:
    """The recipe of a stage.

    Args:
        name: of the recipe.
        summary: one line.
        example: options that run in minutes.
        description: what else its help page says.
        adversarial: it has a discriminator.
    """
    source = AdversarialOptions if adversarial else ContentOptions
    own = (*_SHARED, *(_ADVERSARIAL if adversarial else ()), _SYNTHETIC)
    return Recipe(
        name,
        summary,
        example,
        tuple(with_defaults(own, PhotoData, source)),
        partial(_train, name),
        RunDefaults(20_000, batch=16),
        description,
        unit="dB",
        elsewhere={} if adversarial else {option.flag: "srgan" for option in _ADVERSARIAL},
    )


def _train(name: Literal["srresnet", "srgan"], job: Job, given: Mapping[str, Any]) -> dict[str, float]:
    from gankit.training.superres import train_super_resolution

    place = {each: given[each] for each in _OF_DATA if each in given}
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
