"""The recipes that begin with a latent: the options that they share, and what makes one of a preset."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from gankit.training.choices import ADVERSARIAL_NAMES, INITS
from gankit.training.recipes.base import (
    COUNT,
    NUMBER,
    RATE,
    SHARE,
    WEIGHT,
    Choice,
    Flag,
    Job,
    Option,
    Place,
    Real,
    Recipe,
    RunDefaults,
    Switch,
    Two,
    Whole,
    Widths,
    with_defaults,
)
from gankit.training.schedules import SCHEDULES
from gankit.training.systems.latent_options import NORMS, LatentData, LatentOptions

QUICK = "--data fashion_mnist/ --steps 1000"
SLOW = "--data fashion_mnist/ --steps 300"
RESULT = (
    "The output folder receives log.csv, last.pt (which --resume continues) and final.safetensors, which `gankit "
    "generate --model FILE` loads."
)
_DATA = "Folder with the four files of MNIST or Fashion-MNIST, one IDX file, or a folder of images{classes}."
_OF_DATA = ("images", "fit", "mirror")
_NORMS = tuple(sorted({norm for norms in NORMS.values() for norm in norms}))
_GAN = (
    Option("widths", Widths(), "Widths of the generator's layers, such as 256,128,64.", default_text="set by --size"),
    Option(
        "discriminator_widths",
        Widths(),
        "Widths of the discriminator's layers.",
        default_text="set by the generator's",
    ),
    Option("discriminator_norm", Choice(_NORMS), "Normalisation in the discriminator."),
    Option("discriminator_dropout", SHARE, "Dropout probability in the discriminator."),
    Option("adversarial", Choice(ADVERSARIAL_NAMES), "Adversarial loss."),
    Option("smooth", SHARE, "One-sided label smoothing: the target of real images is 1 minus this value."),
    Option("penalty_weight", WEIGHT, "Weight of the gradient penalty; 0 turns it off."),
    Option("r1_weight", WEIGHT, "Weight of the R1 penalty; 0 turns it off."),
    Option("clip", WEIGHT, "Clip the discriminator's weights to ± this value; 0 turns clipping off."),
    Option("discriminator_steps", COUNT, "Discriminator steps per generator step."),
    Option("optimiser", Choice(("adam", "rmsprop")), "Optimiser of both networks."),
    Option("discriminator_lr", RATE, "Learning rate of the discriminator.", default_text="that of --lr"),
    Option(
        "instance_noise",
        WEIGHT,
        "Standard deviation of the noise added to the discriminator's input; it falls linearly to 0.",
    ),
    Option("progressive", Real(most=1), "Share of the steps over which images grow from a quarter of the size."),
)
_NET = Option("net", Choice(("dcgan", "cgan", "gan")), "Architecture of the generator and the discriminator.")
_NORM = Option("norm", Choice(("batch", "none")), "Normalisation in the generator.")
_CLASS_NORM = Option(
    "norm",
    Choice(("batch", "conditional", "none")),
    "Normalisation in the generator; 'conditional' is BatchNorm with a scale and a shift for each class, in cgan.",
)
_PROJECTION = Option(
    "projection", Switch(), "Let the discriminator compare the class with a projection of its last features."
)


def data_options(*, classes: bool) -> tuple[Option, ...]:
    """The options that say where the images come from.

    Args:
        classes: whether the recipe can be asked for images of a class.
    """
    words = ", with one sub-folder per class" if classes else ""
    own = (
        Option("images", Place(file=True), _DATA.format(classes=words), required=True, switch="data"),
        Option(
            "fit",
            Choice(("resize", "pad")),
            "How images of another size become square: 'resize' takes the middle square and resizes it, 'pad' adds "
            "black borders.",
        ),
        Option("mirror", Flag(), "Mirror a random half of the images."),
    )
    return tuple(with_defaults(own, LatentData))


def shared_options(source: type, preset: Mapping[str, Any]) -> tuple[Option, ...]:
    """The options of every recipe of the family.

    Args:
        source: the dataclass with their defaults.
        preset: values in their place.
    """
    own = (
        Option("size", Whole(8), "Height and width of the images in pixels."),
        Option("colours", Choice((1, 3)), "Colour channels of the images: 1 for gray, 3 for RGB."),
        Option("latent", COUNT, "Length of the latent vector."),
        Option("weight_init", Choice(INITS), "Weight init of the networks.", default_text="as in the network's paper"),
        Option("lr", RATE, "Learning rate of the generator."),
        Option("betas", Two(SHARE), "Adam's decay rates for the mean of the gradients and of their squares."),
        Option("weight_decay", WEIGHT, "L2 penalty on the weights."),
        Option("schedule", Choice(tuple(SCHEDULES)), "Schedule of the learning rate."),
        Option("warmup", NUMBER, "Steps over which the learning rate rises from 0."),
    )
    return tuple(with_defaults(own, source, preset=preset))


def latent_recipe(
    name: str,
    summary: str,
    preset: Mapping[str, Any],
    *,
    example: str = QUICK,
    steps: int = 10_000,
    own_net: bool = False,
) -> Recipe:
    """An adversarial recipe that begins with a latent, from its preset.

    Args:
        name: of the recipe.
        summary: one line.
        preset: fields of :class:`LatentOptions` that differ from their defaults.
        example: options that run in minutes.
        steps: default of ``--steps``.
        own_net: the recipe is that of one architecture; otherwise ``--net`` chooses it.
    """
    net = preset.get("net")
    own = [*_GAN]
    if not own_net:
        own.insert(0, _NET)
    if not own_net or net == "cgan":
        own.insert([each.name for each in own].index("discriminator_dropout"), _PROJECTION)
    if not own_net or net in ("gan", "cgan"):
        norm = _NORM if net == "gan" else _CLASS_NORM
        own.insert([each.name for each in own].index("discriminator_norm"), norm)
    options = (
        *data_options(classes=not own_net or net == "cgan"),
        *shared_options(LatentOptions, preset),
        *with_defaults(own, LatentOptions, preset=preset),
    )
    return Recipe(
        name,
        summary,
        example,
        options,
        partial(_train, name, preset),
        RunDefaults(steps, batch=64, validate_every=500),
        RESULT,
        preset,
    )


def latent_data(job: Job, given: Mapping[str, Any]) -> tuple[LatentData, dict[str, Any]]:
    """The images of a run, and the options that are left."""
    place = {name: given[name] for name in _OF_DATA if name in given}
    data = LatentData(**place, batch=job.batch, workers=job.workers, seed=job.seed)
    return data, {name: value for name, value in given.items() if name not in _OF_DATA}


def _train(name: str, preset: Mapping[str, Any], job: Job, given: Mapping[str, Any]) -> dict[str, float]:
    from gankit.training.latent import train_latent

    data, options = latent_data(job, given)
    return train_latent(name, preset, data, job.plan, device=job.device, options=options, notify=job.notify)
