"""The recipes that translate images: the options that they share, and how their images are read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from gankit.datasets.options import Cut, ImageFolderData
from gankit.errors import UsageError
from gankit.training.choices import ADVERSARIAL_NAMES, CONTENT_NAMES, INITS
from gankit.training.recipes.base import (
    COUNT,
    NUMBER,
    RATE,
    SHARE,
    WEIGHT,
    Choice,
    Job,
    Option,
    Real,
    Text,
    Two,
    Whole,
    with_defaults,
)
from gankit.training.schedules import SCHEDULES
from gankit.training.systems.translation_options import TranslationOptions

_KIND = Choice(("auto", "colour", "gray", "mask", "labels"))
_CUT = (
    Option("size", COUNT, "Side of the square crops in pixels."),
    Option("load", COUNT, "Resize every image first, so that its shorter side has this many pixels."),
    Option(
        "zoom",
        Two(Real(open_least=True)),
        "Enlarge every image by a random factor between these two before a square is cropped.",
    ),
    Option(
        "flips",
        Choice(("none", "mirror", "all")),
        "Random flips: 'mirror' swaps left and right, 'all' adds quarter turns, for images that have no upper side.",
    ),
    Option("candidates", COUNT, "Number of candidate crops; the one with the highest contrast is used."),
)
_READ = (
    Option(
        "source_kind",
        _KIND,
        "How A is read. 'auto' is gray if every image is gray and colour otherwise; 'mask' has two values in a file, "
        "such as 0 and 1 or 0 and 255; 'labels' are class numbers as the file stores them, which are never mixed.",
    ),
    Option("target_kind", _KIND, "How B is read."),
    Option(
        "mask_from",
        COUNT,
        "Lowest value of a mask that is set, in the file's own numbers, for masks of more than two values.",
    ),
    Option("direction", Choice(("AtoB", "BtoA")), "Direction to learn.", default="AtoB"),
    Option("holdout", NUMBER, "Hold out every N-th image, by name, for validation; 0 holds out none."),
)
_ADVERSARIAL = (
    Option("adversarial", Choice(ADVERSARIAL_NAMES), "Adversarial loss."),
    Option("adversarial_weight", WEIGHT, "Weight of the adversarial loss in the generator's loss."),
    Option("smooth", SHARE, "One-sided label smoothing: the target of real images is 1 minus this value."),
    Option("content", Choice(CONTENT_NAMES), "Distance between two images."),
    Option("lr", RATE, "Learning rate of the generator."),
    Option("discriminator_lr", RATE, "Learning rate of the discriminator.", default_text="that of --lr"),
    Option("betas", Two(SHARE), "Adam's decay rates for the mean of the gradients and of their squares."),
    Option("weight_decay", WEIGHT, "L2 penalty on the weights."),
    Option("schedule", Choice(tuple(SCHEDULES)), "Schedule of the learning rates."),
    Option("warmup", NUMBER, "Steps over which the learning rates rise from 0."),
    Option("weight_init", Choice(INITS), "Weight init of the networks."),
    Option("discriminator_channels", COUNT, "Width of the discriminator's first layer."),
    Option(
        "discriminator_layers",
        Whole(0, 7),
        "Strided layers of the discriminator: with 3 each of its logits sees a patch of 70×70, with 0 one pixel.",
    ),
    Option(
        "discriminator_norm",
        Choice(("instance", "batch", "spectral", "none")),
        "Normalisation in the discriminator.",
    ),
    Option("discriminator_steps", COUNT, "Discriminator steps per generator step."),
    Option(
        "instance_noise",
        WEIGHT,
        "Standard deviation of the noise added to the discriminator's input; it falls linearly to 0.",
    ),
    Option("r1_weight", WEIGHT, "Weight of the R1 penalty; 0 turns it off."),
    Option("penalty_weight", WEIGHT, "Weight of the gradient penalty; 0 turns it off."),
    Option("initial", Text(), "Start from these weights: a model's name or a file.", switch="init"),
)
_OF_DATA = ("load", "holdout", "source_kind", "target_kind", "mask_from")
_OF_CUT = ("size", "zoom", "flips", "candidates")
_PLACES = ("source", "target", "aligned", "direction")


def shared_options(options: type[TranslationOptions]) -> tuple[Option, ...]:
    """The options of how images are read and cropped, of the discriminator and of the optimisers.

    Args:
        options: the recipe's dataclass, which has their defaults.
    """
    read = with_defaults((*_CUT, *_READ), Cut, ImageFolderData)
    return (*read, *with_defaults(_ADVERSARIAL, options))


def train(
    run: Callable[..., dict[str, float]], model: Mapping[str, Any], job: Job, given: Mapping[str, Any]
) -> dict[str, float]:
    """Set up the images and the options of a run, and train.

    Args:
        run: :func:`gankit.training.translation.train_pix2pix` or ``train_cyclegan``.
        model: the generator's options by name, with the recipe's defaults.
        job: the run.
        given: all options that were given, with ``source``, and ``target`` where there is one.

    Raises:
        UsageError: options contradict each other.
    """
    cut = {name: given[name] for name in _OF_CUT if name in given}
    least, most = cut.get("zoom", (1.0, 1.0))
    if least > most:
        raise UsageError(f"--zoom {least} {most}: give the lower factor first")
    data = ImageFolderData(
        given["source"],
        given.get("target"),
        turned=given.get("direction") == "BtoA",
        cut=Cut(**cut),
        batch=job.batch,
        workers=job.workers,
        seed=job.seed,
        **{name: given[name] for name in _OF_DATA if name in given},
    )
    own = {*model, *_OF_DATA, *_OF_CUT, *_PLACES, "initial"}
    options = {
        "model": {name: given.get(name, value) for name, value in model.items()},
        **{name: value for name, value in given.items() if name not in own},
    }
    initial = given.get("initial")
    return run(data, job.plan, device=job.device, initial=initial, options=options, notify=job.notify)
