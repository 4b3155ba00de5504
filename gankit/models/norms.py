"""The normalisations of the translation networks, and the statistics that they use on an image."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, get_args

from torch import nn

from gankit.models.checks import Choice
from gankit.models.facts import AtTest

Kind = Literal["instance", "batch"]
KIND, AT_TEST = Choice(get_args(Kind)), Choice(get_args(AtTest))


def layer(kind: Kind, at_test: AtTest) -> Callable[[int], nn.Module]:
    """A function that makes a normalisation layer for a number of channels.

    Args:
        kind: ``"instance"`` without weights, as in junyanz's code, or ``"batch"``.
        at_test: for ``"batch"``: ``"eval"`` for BatchNorm with its running statistics; ``"instance"`` for the
            statistics of the image, which is what BatchNorm in training mode computes for a batch of one. It is
            InstanceNorm with weights, so that it does so for any batch, in eval mode, and in an exported file.
    """
    if kind == "instance":
        return nn.InstanceNorm2d
    return nn.BatchNorm2d if at_test == "eval" else _affine_instance


def _affine_instance(channels: int) -> nn.Module:
    return nn.InstanceNorm2d(channels, affine=True)
