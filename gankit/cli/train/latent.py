"""``gankit train gan``, ``cgan``, ``dcgan``, ``wgan``, ``wgan-gp``, ``lsgan``, ``hinge`` and ``vae``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gankit.cli.train import RECIPES, example
from gankit.cli.train.common import COUNT, NUMBER, RATE, SHARE, WEIGHT, Common, common, run
from gankit.training.recipes.latent_options import NORMS, PRESETS, LatentOptions, VAEOptions
from gankit.training.schedules import SCHEDULES

if TYPE_CHECKING:
    from gankit.training.loop import Plan, Progress

_DATA = "A folder with MNIST's or Fashion-MNIST's four files, one IDX file, or a folder of images{classes}."
_FREE_NET = ("wgan", "wgan-gp", "lsgan", "hinge")
_RUN: Mapping[str, tuple[int, float]] = {  # steps, and the average's decay
    "wgan": (4000, 0.999),
    "wgan-gp": (4000, 0.999),
}
_USUAL_RUN = (10_000, 0.999)


class _Widths(click.ParamType[tuple[int, ...]]):
    """Whole numbers with commas between them."""

    name = "widths"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, ...]:
        if isinstance(value, tuple):
            return value
        try:
            widths = tuple(int(part) for part in str(value).split(","))
        except ValueError:
            widths = ()
        if not widths or min(widths) < 1:
            self.fail(f"'{value}' is not of the kind 256,128,64", param, ctx)
        return widths


@dataclass(frozen=True)
class _Option:
    """One field of the recipe's options, as the command shows it."""

    field: str
    kind: click.ParamType[Any] | None
    help: str
    recipes: tuple[str, ...] = ()  # none: all


_PART = click.FloatRange(0, 1)
_BETA = click.FloatRange(0, 1, max_open=True)
_LOSSES = ("minimax", "nonsaturating", "lsgan", "wasserstein", "hinge")
_ALL_NORMS = sorted({norm for norms in NORMS.values() for norm in norms})
_SHARED = (
    _Option("size", click.IntRange(8), "Height and width of the images."),
    _Option("colours", click.Choice(["1", "3"]), "1 for gray, 3 for RGB."),
    _Option("latent", COUNT, "Numbers in a latent."),
    _Option(
        "weight_init", click.Choice(["xavier", "he", "normal"]), "Weight initialisation.  [default: as the paper's net]"
    ),
    _Option("lr", RATE, "Learning rate of the generator."),
    _Option("beta1", _BETA, "Of Adam."),
    _Option("beta2", _BETA, "Of Adam."),
    _Option("weight_decay", WEIGHT, "L2 penalty on the weights."),
    _Option("schedule", click.Choice(list(SCHEDULES)), "Of the learning rate."),
    _Option("warmup", NUMBER, "Steps in which the learning rate rises from 0."),
)
_GAN = (
    _Option("net", click.Choice(["dcgan", "cgan", "gan"]), "Which networks.", _FREE_NET),
    _Option("widths", _Widths(), "Of the generator's layers.  [default: as the size asks]"),
    _Option("discriminator_widths", _Widths(), "Of the discriminator's.  [default: as the generator's ask]"),
    _Option("generator_norm", None, "BatchNorm in the generator.", ("gan", "cgan", *_FREE_NET)),
    _Option("norm", click.Choice(_ALL_NORMS), "The discriminator's normalisation."),
    _Option("projection", None, "Judge the class by a projection of the last features.", ("cgan", *_FREE_NET)),
    _Option("dropout", SHARE, "In the discriminator."),
    _Option(
        "adversarial",
        click.Choice(["minimax", "nonsaturating", "lsgan", "wasserstein", "hinge"]),
        "The adversarial loss.",
    ),
    _Option("smooth", SHARE, "One-sided label smoothing: real images are asked to be 1 - this real."),
    _Option("penalty", WEIGHT, "Weight of the gradient penalty."),
    _Option("r1", WEIGHT, "Weight of the R1 penalty."),
    _Option("clip", WEIGHT, "Hold the discriminator's weights within ± this; 0 for no bound."),
    _Option("discriminator_steps", COUNT, "Of the discriminator for each of the generator."),
    _Option("optimiser", click.Choice(["adam", "rmsprop"]), "Of both."),
    _Option("discriminator_lr", RATE, "The discriminator's learning rate (TTUR).  [default: that of --lr]"),
    _Option("instance_noise", WEIGHT, "Deviation of the noise on what the discriminator sees; it falls to 0."),
    _Option("progressive", _PART, "Part of the steps in which images grow from a quarter of the size."),
)
_VAE = (
    _Option("hidden", _Widths(), "Of the encoder's layers; the decoder has them in reverse."),
    _Option("beta", WEIGHT, "Weight of the KL term."),
    _Option("loss", click.Choice(["bce", "mse"]), "Of an image and its reconstruction."),
    _Option("kl_warmup", NUMBER, "Steps in which the KL term's weight rises from 0."),
)


def _defaults(recipe: str) -> dict[str, Any]:
    options = VAEOptions if recipe == "vae" else LatentOptions
    return {field.name: field.default for field in fields(options)} | dict(PRESETS.get(recipe, {}))


def _option(option: _Option, default: Any) -> Callable[[Any], Any]:
    """The click option; what is not given stays ``None``, so that the preset decides."""
    name = option.field.replace("_", "-")
    text = option.help
    if option.kind is None:
        shown = name if default else f"no-{name}"
        return click.option(f"--{name}/--no-{name}", default=None, help=f"{text}  [default: {shown}]")
    if default not in (None, ()):
        reported = ",".join(map(str, default)) if isinstance(default, tuple) else default
        text += f"  [default: {reported}]"
    return click.option(f"--{name}", type=option.kind, help=text)


def _command(recipe: str) -> click.Command:
    defaults = _defaults(recipe)

    def command(common: Common, **given: Any) -> None:
        _train(recipe, common, **given)

    conditional = defaults.get("net") == "cgan" or recipe in _FREE_NET
    command.__doc__ = (
        f"{RECIPES[recipe].help}\n\nThe folder gets log.csv, last.pt (to go on with --resume) and final.safetensors, "
        "which `gankit generate --model FILE` takes."
    )
    own = [each for each in (_VAE if recipe == "vae" else _GAN) if not each.recipes or recipe in each.recipes]
    options = [
        click.option(
            "--data",
            "images",
            type=click.Path(path_type=Path, exists=True),
            required=True,
            help=_DATA.format(classes=", with a sub-folder for each class" if conditional else ""),
        ),
        click.option(
            "--fit",
            type=click.Choice(["resize", "pad"]),
            default="resize",
            show_default=True,
            help="How images of another size become square: the middle resized, or black around them.",
        ),
        click.option("--mirror", is_flag=True, help="Mirror half of the images."),
        *(_option(each, defaults[each.field]) for each in (*_SHARED, *own)),
    ]
    function: Any = command
    for option in reversed(options):
        function = option(function)
    steps, average = _RUN.get(recipe, _USUAL_RUN)
    function = common(steps=steps, batch=64, validate_every=500, average=average)(function)
    return click.command(recipe, epilog=f"\b\nMinutes on a laptop's CPU:\n  {example(recipe)}")(function)


def _train(recipe: str, common: Common, images: Path, fit: Any, mirror: bool, **given: Any) -> None:
    from gankit.training.latents import Data, train_latent

    given = {name: value for name, value in given.items() if value is not None}
    if "colours" in given:
        given["colours"] = int(given["colours"])
    data = Data(images, common.batch, fit, mirror, common.workers, common.seed)

    def train(plan: Plan, notify: Callable[[Progress], None]) -> dict[str, float]:
        return train_latent(
            recipe,
            data,
            plan,
            device=common.place(),
            options=given,
            notify=notify,
        )

    run(common, train)


gan, cgan, dcgan, wgan, wgan_gp, lsgan, hinge, vae = (
    _command(name) for name in ("gan", "cgan", "dcgan", "wgan", "wgan-gp", "lsgan", "hinge", "vae")
)
