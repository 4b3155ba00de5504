"""What the models that start from latents share: rules of options, activations, value ranges, dense layers."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from types import MappingProxyType

from torch import nn

from gankit.models.checks import Choice, Fields, Several, Whole

ACTIVATIONS = ("relu", "leaky_relu")
RANGES: Mapping[str, tuple[float, float]] = MappingProxyType({"tanh": (-1.0, 1.0), "sigmoid": (0.0, 1.0)})
"""The value range of the images that each last activation makes."""

# A weights file that asks for more than these is damaged.
LATENT = Whole(65536)
WIDTHS = Several(Whole(65536), 64)
SIDE = Whole(4096)
SIZE = Fields((SIDE, SIDE), f"[height, width], each {SIDE.allowed}")
COLOURS = Choice((1, 3))
ACTIVATION, OUTPUT = Choice(ACTIVATIONS), Choice(tuple(RANGES))


def activation(name: str) -> nn.Module:
    """ReLU, or LeakyReLU with slope 0.2 below zero."""
    return nn.ReLU() if name == "relu" else nn.LeakyReLU(0.2)


def last_activation(name: str) -> nn.Module:
    """Tanh or sigmoid."""
    return nn.Tanh() if name == "tanh" else nn.Sigmoid()


def dense(widths: Sequence[int], act: str, *, norm: bool = False, eps: float = 1e-5) -> list[nn.Module]:
    """Linear layers, each with its activation.

    Args:
        widths: of the input and of every layer.
        act: one of ``ACTIVATIONS``.
        norm: BatchNorm between each layer and its activation, except in the first.
        eps: what the BatchNorms add to the variance.
    """
    layers: list[nn.Module] = []
    for index, (before, width) in enumerate(itertools.pairwise(widths)):
        layers.append(nn.Linear(before, width))
        if norm and index:
            layers.append(nn.BatchNorm1d(width, eps))
        layers.append(activation(act))
    return layers
