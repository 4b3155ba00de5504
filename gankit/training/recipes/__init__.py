"""The registry of recipes: one module a recipe, which defines ``RECIPE``.

Another recipe is another module and another line in :data:`RECIPES`. Its command, its options, its help and its
example follow from that. Nothing here imports torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from types import MappingProxyType

from gankit.training.recipes.base import Recipe

RECIPES: Mapping[str, str] = MappingProxyType(
    {
        "gan": "gankit.training.recipes.gan",
        "cgan": "gankit.training.recipes.cgan",
        "dcgan": "gankit.training.recipes.dcgan",
        "wgan": "gankit.training.recipes.wgan",
        "wgan-gp": "gankit.training.recipes.wgan_gp",
        "lsgan": "gankit.training.recipes.lsgan",
        "hinge": "gankit.training.recipes.hinge",
        "vae": "gankit.training.recipes.vae",
        "pix2pix": "gankit.training.recipes.pix2pix",
        "cyclegan": "gankit.training.recipes.cyclegan",
        "srresnet": "gankit.training.recipes.srresnet",
        "edsr": "gankit.training.recipes.edsr",
        "srgan": "gankit.training.recipes.srgan",
    }
)
"""The module of each recipe, in the order of the list that ``gankit train --help`` shows."""


def recipe(name: str) -> Recipe:
    """A recipe by its name.

    Raises:
        KeyError: there is none of that name.
    """
    found: Recipe = import_module(RECIPES[name]).RECIPE
    return found
