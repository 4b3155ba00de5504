"""``gankit train pix2pix`` and ``gankit train cyclegan``: images from images."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from gankit.cli.train import example
from gankit.cli.train.common import COUNT, FOLDER, NUMBER, RATE, SHARE, WEIGHT, Common, common, run

if TYPE_CHECKING:
    from gankit.training.translation_data import ImageFolderData

_Command = TypeVar("_Command", bound=Callable[..., Any])
_KIND = click.Choice(["auto", "colour", "gray", "mask", "labels"])
_LOSSES = click.Choice(["nonsaturating", "minimax", "lsgan", "wasserstein", "hinge"])
_SCHEDULES = click.Choice(["constant", "step", "exponential", "inverse", "linear", "cosine", "cyclic"])
_MEANING = "auto: gray where every image is; mask: set or not; labels: gray levels that are never mixed."
# the options that say how images are read and cut; the rest is the recipe's
_OF_DATA = ("side", "zoom", "flips", "candidates", "load", "holdout", "source_kind", "target_kind", "direction")


def _together(*options: Callable[[_Command], _Command]) -> Callable[[_Command], _Command]:
    def add(command: _Command) -> _Command:
        for option in reversed(options):
            command = option(command)
        return command

    return add


def _images(*, side: int) -> Callable[[_Command], _Command]:
    """Options of how images are read and cut."""
    return _together(
        click.option("--side", type=COUNT, default=side, show_default=True, help="Side of the squares in pixels."),
        click.option("--load", type=COUNT, help="Bring the shorter side of every image to so many pixels first."),
        click.option(
            "--zoom",
            type=(RATE, RATE),
            default=(1.0, 286 / 256),
            help="Enlarge by a factor between these two before a square is cut.  [default: 1.0 1.117]",
        ),
        click.option(
            "--flips",
            type=click.Choice(["none", "mirror", "all"]),
            default="mirror",
            show_default=True,
            help="all: also quarter turns, for images that have no up.",
        ),
        click.option(
            "--candidates",
            type=COUNT,
            default=1,
            show_default=True,
            help="Take the place with the most contrast of so many.",
        ),
        click.option("--source-kind", type=_KIND, default="auto", show_default=True, help=f"Of A. {_MEANING}"),
        click.option("--target-kind", type=_KIND, default="auto", show_default=True, help="Of B."),
        click.option("--direction", type=click.Choice(["AtoB", "BtoA"]), default="AtoB", show_default=True),
        click.option(
            "--holdout",
            type=NUMBER,
            default=5,
            show_default=True,
            help="Hold out every so-many-th stem to judge by; 0 for none.",
        ),
    )


def _game(*, loss: str, schedule: str) -> Callable[[_Command], _Command]:
    """Options of the discriminator and of the optimisers."""
    return _together(
        click.option("--adversarial", type=_LOSSES, default=loss, show_default=True, help="The loss that is played."),
        click.option("--adversarial-weight", type=WEIGHT, help="Of it for the generator."),
        click.option("--smooth", type=SHARE, help="One-sided label smoothing: real is 1 less so much."),
        click.option("--content", type=click.Choice(["l1", "mse", "charbonnier"]), help="Distance.  [default: l1]"),
        click.option("--lr", type=RATE, help="Adam's learning rate.  [default: 0.0002]"),
        click.option("--discriminator-lr", type=RATE, help="Of the discriminator.  [default: the generator's]"),
        click.option("--betas", type=(SHARE, SHARE), help="Adam's decay rates.  [default: 0.5 0.999]"),
        click.option("--weight-decay", type=WEIGHT, help="L2 penalty on the weights."),
        click.option("--schedule", type=_SCHEDULES, default=schedule, show_default=True, help="Of the learning rates."),
        click.option("--warmup", type=NUMBER, help="Steps in which they rise from 0."),
        click.option(
            "--weight-init",
            "weight_init",
            type=click.Choice(["normal", "xavier", "he"]),
            help="How the nets are initialised.  [default: normal]",
        ),
        click.option("--discriminator-channels", type=COUNT, help="Width of its first layer.  [default: 64]"),
        click.option(
            "--discriminator-layers",
            type=click.IntRange(0, 7),
            help="Strided layers: 3 judge patches of 70×70, 0 single pixels.  [default: 3]",
        ),
        click.option(
            "--discriminator-norm",
            type=click.Choice(["instance", "batch", "spectral", "none"]),
            help="Its normalisation.  [default: instance]",
        ),
        click.option("--discriminator-steps", type=COUNT, help="For one of the generator.  [default: 1]"),
        click.option("--instance-noise", "noise", type=WEIGHT, help="Its deviation at first; it fades out."),
        click.option("--r1", type=WEIGHT, help="Weight of the R1 penalty."),
        click.option("--penalty", type=WEIGHT, help="Weight of the gradient penalty."),
        click.option("--init", "initial", help="Weights to begin from: a file."),
    )


@click.command(epilog=f"\b\nMinutes on a laptop's CPU:\n  {example('pix2pix')}")
@click.option("--data", "source", type=FOLDER, help="Images to translate from (A).")
@click.option("--target", type=FOLDER, help="What is to become of them (B): the same stems.")
@click.option("--aligned", type=FOLDER, help="In place of both: A and B side by side in one image.")
@click.option("--channels", type=COUNT, default=64, show_default=True, help="Width of the U-Net's first level.")
@click.option("--downs", type=click.IntRange(2, 16), default=8, show_default=True, help="Its levels.")
@click.option("--norm", type=click.Choice(["batch", "instance"]), default="batch", show_default=True)
@click.option(
    "--norm-at-test",
    type=click.Choice(["instance", "eval"]),
    default="instance",
    show_default=True,
    help="Of batch: the image's own statistics, as in the paper, or the running ones.",
)
@click.option("--dropout/--no-dropout", default=True, show_default=True, help="In the decoder's deep levels.")
@click.option("--content-weight", type=WEIGHT, help="Of the distance to the target.  [default: 100]")
@_images(side=256)
@_game(loss="nonsaturating", schedule="constant")
@common(steps=20_000, batch=1)
def pix2pix(
    common: Common,
    source: Path | None,
    target: Path | None,
    aligned: Path | None,
    channels: int,
    downs: int,
    norm: str,
    norm_at_test: str,
    dropout: bool,
    **given: Any,
) -> None:
    """Learn from pairs to make one image of another (pix2pix: U-Net, PatchGAN, L1).

    The folder gets log.csv, last.pt (to go on with --resume), held_out.txt (what was judged by) and
    final.safetensors, which ``gankit translate --model FILE`` takes; and best.safetensors, of the highest Dice, where
    the target is a mask.
    """
    from gankit.training.translation import train_pix2pix

    if aligned is not None and (source or target):
        raise click.UsageError("--aligned stands in place of --data and --target: give it alone")
    if aligned is None and not (source and target):
        raise click.UsageError("give --data and --target, or --aligned")
    model = {"channels": channels, "downs": downs, "norm": norm, "norm_at_test": norm_at_test, "dropout": dropout}
    _train(common, train_pix2pix, aligned or source, target, model, given)


@click.command(epilog=f"\b\nMinutes on a laptop's CPU:\n  {example('cyclegan')}")
@click.option("--data", "source", type=FOLDER, required=True, help="Images of one kind (A).")
@click.option("--target", type=FOLDER, required=True, help="Images of the other kind (B).")
@click.option("--channels", type=COUNT, default=64, show_default=True, help="Width of the generators' first stage.")
@click.option("--blocks", type=COUNT, default=9, show_default=True, help="Their residual blocks.")
@click.option("--norm", type=click.Choice(["instance", "batch"]), default="instance", show_default=True)
@click.option(
    "--antialias/--no-antialias", default=False, show_default=True, help="Blurred subsampling, as CUT has it."
)
@click.option(
    "--antialias-up/--no-antialias-up", default=False, show_default=True, help="Blurred upsampling: no checkerboards."
)
@click.option("--dropout", type=SHARE, help="In every block.")
@click.option("--cycle", "cycle_weight", type=WEIGHT, help="Weight of the way there and back.  [default: 10]")
@click.option(
    "--identity",
    "identity_weight",
    type=WEIGHT,
    help="Weight, as a part of --cycle, of leaving images of the other kind alone.  [default: 0.5]",
)
@click.option("--pool", type=NUMBER, help="Made images that are shown again.  [default: 50]")
@_images(side=256)
@_game(loss="lsgan", schedule="linear")
@common(steps=20_000, batch=1)
def cyclegan(
    common: Common,
    source: Path,
    target: Path,
    channels: int,
    blocks: int,
    norm: str,
    antialias: bool,
    antialias_up: bool,
    dropout: float | None,
    **given: Any,
) -> None:
    """Learn to turn two kinds of images into each other, without pairs (CycleGAN).

    The folder gets log.csv, last.pt (to go on with --resume), held_out.txt (what was judged by), and
    final_G_A.safetensors (A to B) and final_G_B.safetensors (B to A): ``gankit translate --model FILE --direction
    AtoB`` takes either.
    """
    from gankit.training.translation import train_cyclegan

    model = {
        "channels": channels,
        "blocks": blocks,
        "norm": norm,
        "antialias": antialias,
        "antialias_up": antialias_up,
        "dropout": dropout,
    }
    _train(common, train_cyclegan, source, target, model, given)


def _train(
    common: Common,
    train: Callable[..., dict[str, float]],
    source: Path | None,
    target: Path | None,
    model: Mapping[str, Any],
    given: dict[str, Any],
) -> None:
    initial = given.pop("initial")
    data = _data(common, source, target, {name: given.pop(name) for name in _OF_DATA})
    options = {"model": model, **{name: value for name, value in given.items() if value is not None}}
    place = common.place()
    run(common, lambda plan, notify: train(data, plan, device=place, initial=initial, options=options, notify=notify))


def _data(common: Common, source: Path | None, target: Path | None, given: Mapping[str, Any]) -> ImageFolderData:
    from gankit.training.crops import Cut
    from gankit.training.translation_data import ImageFolderData

    least, most = given["zoom"]
    if least > most:
        raise click.UsageError(f"--zoom {least} {most}: the lower one comes first")
    return ImageFolderData(
        source,  # type: ignore[arg-type]
        target,
        given["source_kind"],
        given["target_kind"],
        turned=given["direction"] == "BtoA",
        load=given["load"],
        cut=Cut(given["side"], (least, most), given["flips"], given["candidates"]),
        holdout=given["holdout"],
        batch=common.batch,
        workers=common.workers,
        seed=common.seed,
    )
