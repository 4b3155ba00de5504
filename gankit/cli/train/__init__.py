"""``gankit train``: one command a recipe, each imported when it is called.

Another recipe is one more line in :data:`RECIPES`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from types import MappingProxyType

import click


@dataclass(frozen=True)
class Recipe:
    """Where the command of a recipe is.

    Attributes:
        module: below this package.
        attribute: the command in it.
        help: a line for the list.
        example: what runs in minutes on a laptop's CPU, without ``gankit train NAME`` and the output.
    """

    module: str
    attribute: str
    help: str
    example: str


_IDX = "--data fashion_mnist/ --steps 1000"
_SLOW = "--data fashion_mnist/ --steps 300"
_SR = "--data photos/ --validation val/ --steps 300"
RECIPES: Mapping[str, Recipe] = MappingProxyType(
    {
        "gan": Recipe("latent", "gan", "GAN of dense layers (Goodfellow et al. 2014).", _IDX),
        "cgan": Recipe("latent", "cgan", "Pictures of a class that is asked for (Mirza and Osindero 2014).", _IDX),
        "dcgan": Recipe("latent", "dcgan", "Convolutional GAN (Radford et al. 2016).", _IDX),
        "wgan": Recipe("latent", "wgan", "Wasserstein GAN with clipped weights (Arjovsky et al. 2017).", _SLOW),
        "wgan-gp": Recipe(
            "latent", "wgan_gp", "Wasserstein GAN with a gradient penalty (Gulrajani et al. 2017).", _SLOW
        ),
        "lsgan": Recipe("latent", "lsgan", "Least-squares GAN (Mao et al. 2017).", _IDX),
        "hinge": Recipe("latent", "hinge", "GAN with the hinge loss (Miyato et al. 2018).", _IDX),
        "vae": Recipe("latent", "vae", "Variational autoencoder, or β-VAE (Kingma and Welling 2014).", _IDX),
        "pix2pix": Recipe(
            "translation",
            "pix2pix",
            "Translate pictures, learnt from pairs (Isola et al. 2017).",
            "--data images/ --target masks/ --target-kind mask --channels 24 --downs 5 --steps 500",
        ),
        "cyclegan": Recipe(
            "translation",
            "cyclegan",
            "Translate both ways, learnt without pairs (Zhu et al. 2017).",
            "--data summer/ --target winter/ --channels 16 --blocks 4 --side 128 --steps 300",
        ),
        "srresnet": Recipe("superres", "srresnet", "Upscale, by the content loss (Ledig et al. 2017).", _SR),
        "srgan": Recipe(
            "superres",
            "srgan",
            "Upscale sharply, from a trained srresnet (Ledig et al. 2017).",
            f"{_SR} --init srresnet",
        ),
    }
)


class _Recipes(click.Group):
    """A group whose commands are imported when they run, not when they are listed."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(RECIPES)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.list_commands(ctx):
            return None
        recipe = RECIPES[cmd_name]
        command: click.Command = getattr(import_module(f"{__name__}.{recipe.module}"), recipe.attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        names = self.list_commands(ctx)
        with formatter.section("Recipes"):
            formatter.write_dl([(name, RECIPES[name].help) for name in names])
        with formatter.section("Minutes on a laptop's CPU"):
            for name in names:
                formatter.write(f"  {example(name)}\n")


def example(name: str) -> str:
    """The command of a recipe that runs in minutes on a laptop's CPU."""
    return f"gankit train {name} {RECIPES[name].example} --output runs/{name}"


@click.group(cls=_Recipes, subcommand_metavar="RECIPE [OPTIONS]")
def train() -> None:
    """Train a generator by RECIPE; `gankit train RECIPE --help` shows its options.

    The folder of --output gets log.csv, last.pt (to go on with --resume), sample sheets where --sheet-every asks for
    them, and final.safetensors, which the other commands take with --model FILE.
    """
