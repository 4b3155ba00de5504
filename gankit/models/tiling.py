"""Whether a generator's images can be cut into tiles, where its facts do not say."""

from __future__ import annotations

from dataclasses import replace

from torch import nn

from gankit.models.facts import Facts
from gankit.models.receptive_field import halo


def settled(facts: Facts, generator: nn.Module) -> Facts:
    """The facts with ``tileable`` stated: as given, or derived from the traced generator.

    A generator is tileable if its exact halo can be computed: every layer is known, and none looks at the whole image.
    The halo is what the pipeline cuts tiles with, so that tiles of such a generator are exact; nothing is guessed.

    Args:
        facts: of the generator.
        generator: any module; it is not run and not changed.

    Returns:
        The same facts where ``tileable`` is stated, or the task is to generate, which knows no tiles.
    """
    if facts.tileable is not None or facts.task == "generate":
        return facts
    try:
        halo(generator)
    except ValueError:  # it cannot be traced, a layer is not known, or one looks at the whole image
        return replace(facts, tileable=False)
    return replace(facts, tileable=True)
