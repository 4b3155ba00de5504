"""``gankit train``: one command a recipe, each imported when it is called.

Another recipe is one more line in :data:`RECIPES`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import click

from gankit.cli.group import Entry, LazyGroup


@dataclass(frozen=True)
class Recipe(Entry):
    """The command of a recipe.

    Attributes:
        example: what runs in minutes on a laptop's CPU, without ``gankit train NAME`` and the output.
    """

    example: str


_IDX = "--data fashion_mnist/ --steps 1000"
_SLOW = "--data fashion_mnist/ --steps 300"
_SR = "--data photos/ --validation val/ --steps 300"
RECIPES: Mapping[str, Recipe] = MappingProxyType(
    {
        "gan": Recipe("latent:gan", "GAN of dense layers (Goodfellow et al. 2014).", _IDX),
        "cgan": Recipe("latent:cgan", "Images of a class that is asked for (Mirza and Osindero 2014).", _IDX),
        "dcgan": Recipe("latent:dcgan", "Convolutional GAN (Radford et al. 2016).", _IDX),
        "wgan": Recipe("latent:wgan", "Wasserstein GAN with clipped weights (Arjovsky et al. 2017).", _SLOW),
        "wgan-gp": Recipe("latent:wgan_gp", "Wasserstein GAN with a gradient penalty (Gulrajani et al. 2017).", _SLOW),
        "lsgan": Recipe("latent:lsgan", "Least-squares GAN (Mao et al. 2017).", _IDX),
        "hinge": Recipe("latent:hinge", "GAN with the hinge loss (Miyato et al. 2018).", _IDX),
        "vae": Recipe("latent:vae", "Variational autoencoder, or β-VAE (Kingma and Welling 2014).", _IDX),
        "pix2pix": Recipe(
            "translation:pix2pix",
            "Translate images, learnt from pairs (Isola et al. 2017).",
            "--data images/ --target masks/ --target-kind mask --channels 24 --downs 5 --steps 500",
        ),
        "cyclegan": Recipe(
            "translation:cyclegan",
            "Translate both ways, learnt without pairs (Zhu et al. 2017).",
            "--data summer/ --target winter/ --channels 16 --blocks 4 --side 128 --steps 300",
        ),
        "srresnet": Recipe("superres:srresnet", "Upscale, by the content loss (Ledig et al. 2017).", _SR),
        "srgan": Recipe(
            "superres:srgan",
            "Upscale sharply, from a trained srresnet (Ledig et al. 2017).",
            f"{_SR} --init srresnet",
        ),
    }
)


class _Recipes(LazyGroup):
    """The list also has an example of each."""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        super().format_commands(ctx, formatter)
        with formatter.section("Minutes on a laptop's CPU"):
            for name in self.entries:
                formatter.write(f"  {example(name)}\n")


def example(name: str) -> str:
    """The command of a recipe that runs in minutes on a laptop's CPU."""
    return f"gankit train {name} {RECIPES[name].example} --output runs/{name}"


@click.group(cls=_Recipes, package=__name__, entries=RECIPES, noun="recipe", subcommand_metavar="RECIPE [OPTIONS]")
def train() -> None:
    """Train a generator by RECIPE; `gankit train RECIPE --help` shows its options.

    The folder of --output gets log.csv, last.pt (to go on with --resume), sample grids where --grid-every asks for
    them, and final.safetensors, which the other commands take with --model FILE.
    """
