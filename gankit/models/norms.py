"""The normalisations of the translation networks, and how they run on an image."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from torch import nn

from gankit.models.checks import one_of
from gankit.models.facts import AtTest, Norm

Kind = Literal["instance", "batch"]


def layer(kind: Kind, at_test: AtTest) -> Callable[[int], nn.Module]:
    """What makes a normalisation of so many channels.

    Args:
        kind: ``"instance"`` without weights, as junyanz's code has it, or ``"batch"``.
        at_test: for ``"batch"``: ``"eval"`` for BatchNorm on its running statistics; ``"instance"`` for the statistics
            of the image, which is what BatchNorm in training mode computes for a batch of one. Written as
            InstanceNorm with weights, it does so for any batch, in eval mode, and in an exported file.
    """
    if kind == "instance":
        return nn.InstanceNorm2d
    return nn.BatchNorm2d if at_test == "eval" else _affine_instance


def fact(kind: Kind, at_test: AtTest) -> Norm:
    """The kind of normalisation that the pipeline has to know of."""
    return "batch" if (kind, at_test) == ("batch", "eval") else "instance"


def check(norm: object, norm_at_test: object) -> None:
    """Require values that :func:`layer` knows.

    Raises:
        ValueError: one is another.
    """
    one_of("norm", norm, ("instance", "batch"))
    one_of("norm_at_test", norm_at_test, ("instance", "eval"))


def _affine_instance(channels: int) -> nn.Module:
    return nn.InstanceNorm2d(channels, affine=True)
