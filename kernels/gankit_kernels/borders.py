"""Reflected borders of images."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor
from torch.nn import functional as F


def unreflected(gradient: Tensor, pads: Sequence[int]) -> Tensor:
    """The gradient of a reflected border: fold its rows and columns back onto those that they mirror.

    Args:
        gradient: (N, C, H + top + bottom, W + left + right).
        pads: (left, right, top, bottom), as ``F.pad`` takes them.

    Returns:
        (N, C, H, W).
    """
    left, right, top, bottom = pads
    for axis, first, second in ((2, top, bottom), (3, left, right)):
        if not first and not second:
            continue
        size = gradient.shape[axis] - first - second
        inside = gradient.narrow(axis, first, size)
        before = gradient.narrow(axis, 0, first).flip(axis)
        after = gradient.narrow(axis, first + size, second).flip(axis)
        before = F.pad(before, _at(axis, 1, size - first - 1))
        gradient = inside + before + F.pad(after, _at(axis, size - second - 1, 1))
    return gradient


def _at(axis: int, before: int, after: int) -> list[int]:
    """The argument of ``F.pad`` for zeros along one axis of (N, C, H, W)."""
    return [before, after] if axis == 3 else [0, 0, before, after]
