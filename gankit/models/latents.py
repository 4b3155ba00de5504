"""What the models that start from latents share: activations, value ranges, dense layers, checks of options."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from types import MappingProxyType

from torch import nn

from gankit.models.checks import one_of, whole

ACTIVATIONS = ("relu", "leaky_relu")
RANGES: Mapping[str, tuple[float, float]] = MappingProxyType({"tanh": (-1.0, 1.0), "sigmoid": (0.0, 1.0)})
"""The value range of the images that each last activation makes."""

_WIDEST = 65536  # beyond it, as beyond the next two, a weights file is damaged
_DEEPEST = 64
_LARGEST = 4096


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
        norm: BatchNorm between a layer and its activation, in all but the first.
        eps: of the BatchNorms.
    """
    layers: list[nn.Module] = []
    for index, (before, width) in enumerate(itertools.pairwise(widths)):
        layers.append(nn.Linear(before, width))
        if norm and index:
            layers.append(nn.BatchNorm1d(width, eps))
        layers.append(activation(act))
    return layers


def check_widths(option: str, values: Sequence[int]) -> None:
    """Require one or more whole numbers.

    Raises:
        ValueError: there are none, or one is no width of a layer.
    """
    if not isinstance(values, list | tuple) or not 1 <= len(values) <= _DEEPEST:
        raise ValueError(f"{option} must be 1 to {_DEEPEST} whole numbers, not {values!r}")
    for value in values:
        whole(option, value, _WIDEST)


def check_image(size: Sequence[int], channels: int) -> None:
    """Require a height and a width, and 1 or 3 colours.

    Raises:
        ValueError: they are no such thing.
    """
    if not isinstance(size, list | tuple) or len(size) != 2:
        raise ValueError(f"size must be a height and a width, not {size!r}")
    for side in size:
        whole("size", side, _LARGEST)
    if type(channels) is not int or channels not in (1, 3):
        raise ValueError(f"channels must be 1 or 3, not {channels!r}")


def check_layers(latent: int, act: str, output: str, eps: float = 1e-5) -> None:
    """Require a latent, activations and an epsilon that can be.

    Raises:
        ValueError: one cannot.
    """
    whole("latent", latent, _WIDEST)
    one_of("activation", act, ACTIVATIONS)
    one_of("output", output, tuple(RANGES))
    if not isinstance(eps, float) or not 0 < eps <= 1:
        raise ValueError(f"eps must be a number above 0 and at most 1, not {eps!r}")
