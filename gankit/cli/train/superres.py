"""``gankit train srresnet`` and ``gankit train srgan``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from gankit.cli.train import example
from gankit.cli.train.common import COUNT, FOLDER, NUMBER, RATE, WEIGHT, Common, common, run

if TYPE_CHECKING:
    from gankit.training.loop import Plan, Progress

_Recipe = Literal["srresnet", "srgan"]


class _OfSrgan(click.Option):
    """An option of the adversarial stage: srresnet knows it, to say so, but does not list it."""


def _command(recipe: _Recipe) -> Callable[[Callable[..., None]], click.Command]:
    """The command of a stage, with the options of both."""

    def make(function: Callable[..., None]) -> click.Command:
        for option in reversed(_OPTIONS):
            function = option(function)
        epilog = f"\b\nMinutes on a laptop's CPU:\n  {example(recipe)}"
        made = click.command(recipe, epilog=epilog)(common(steps=20_000, batch=16)(function))
        for parameter in made.params:
            if recipe == "srresnet" and isinstance(parameter, _OfSrgan):
                parameter.hidden = True
        return made

    return make


def _srgan_option(name: str, kind: click.ParamType[Any], text: str) -> Callable[[Any], Any]:
    return click.option(name, type=kind, help=text, cls=_OfSrgan)


_OPTIONS = (
    click.option("--data", "photos", type=FOLDER, required=True, help="Training images."),
    click.option("--validation", type=FOLDER, required=True, help="Images that judge."),
    click.option("--patch", type=COUNT, default=24, show_default=True, help="LR side of a patch."),
    click.option("--scale", type=click.Choice(["2", "4", "8"]), help="Factor.  [default: 4, or that of --init]"),
    click.option("--blocks", type=COUNT, help="Residual blocks.  [default: 16, or those of --init]"),
    click.option("--channels", type=COUNT, help="Width of the body.  [default: 64, or that of --init]"),
    click.option("--init", "initial", help="Weights to begin from: a model's name or a file."),
    click.option(
        "--norm", type=click.Choice(["frozen", "batch"]), default="frozen", show_default=True, help="BatchNorm."
    ),
    click.option("--lr", type=RATE, help="Adam's learning rate (first and last layers, biases)."),
    click.option("--inner-lr", type=RATE, help="Muon's learning rate (the body)."),
    click.option(
        "--loss",
        type=click.Choice(["l1", "mse", "charbonnier"]),
        default="l1",
        show_default=True,
        help="The content term.",
    ),
    _srgan_option("--content", WEIGHT, "Weight of the content term.  [default: 1]"),
    _srgan_option("--adversarial", WEIGHT, "Weight of the adversarial term."),
    _srgan_option("--perceptual", WEIGHT, "Weight of the perceptual term."),
    _srgan_option("--consistency", WEIGHT, "Weight of the distance of the reduced result to the input."),
    _srgan_option("--head-start", NUMBER, "Steps that the discriminator trains alone."),
    _srgan_option("--discriminator-channels", COUNT, "Width of the discriminator."),
    _srgan_option(
        "--discriminator-norm",
        click.Choice(["spectral", "batch"]),
        "Its normalisation: spectral holds it back, batch is as published.  [default: spectral]",
    ),
    _srgan_option("--discriminator-lr", RATE, "Its learning rate.  [default: 0.0001]"),
    _srgan_option("--vgg-weights", click.Path(path_type=Path), "VGG19 state dict for the perceptual term."),
    click.option("--synthetic", type=NUMBER, default=24, show_default=True, help="Images of text and lines to add."),
)


@_command("srresnet")
def srresnet(common: Common, **options: Any) -> None:
    """Train SRResNet by the content loss.

    The folder gets log.csv, last.pt (to go on with --resume), best.safetensors, of the highest PSNR, and
    final.safetensors: `gankit upscale --model FILE` takes both.
    """
    _train("srresnet", common, **options)


@_command("srgan")
def srgan(common: Common, **options: Any) -> None:
    """Train SRGAN, adversarially, from the weights of a trained srresnet (--init).

    The folder gets log.csv, last.pt (to go on with --resume) and final.safetensors, which `gankit upscale --model
    FILE` takes. It keeps no best weights, since PSNR falls as images get sharper.
    """
    _train("srgan", common, **options)


def _train(
    recipe: _Recipe,
    common: Common,
    photos: Path,
    validation: Path,
    patch: int,
    synthetic: int,
    scale: str | None,
    blocks: int | None,
    channels: int | None,
    initial: str | None,
    **given: Any,
) -> None:
    given = {name: value for name, value in given.items() if value is not None}
    adversarial = {
        parameter.name for parameter in srgan.params if isinstance(parameter, _OfSrgan) and parameter.name is not None
    }
    if recipe == "srresnet" and (wrong := sorted(adversarial & set(given))):
        raise click.UsageError(f"--{wrong[0].replace('_', '-')} belongs to the srgan recipe")
    if scale is not None:
        given["scale"] = int(scale)
    size = {"blocks": blocks, "channels": channels}
    given["model"] = {name: value for name, value in size.items() if value is not None}
    from gankit.training.superres import Data, train_super_resolution

    data = Data(photos, validation, patch, common.batch, synthetic, common.workers, common.seed)

    def train(plan: Plan, notify: Callable[[Progress], None]) -> dict[str, float]:
        return train_super_resolution(
            recipe,
            data,
            plan,
            device=common.place(),
            initial=initial,
            options=given,
            notify=notify,
        )

    run(common, train, unit="dB")
