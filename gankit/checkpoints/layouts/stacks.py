"""Stacks of dense layers, read from shapes: helpers of the layouts of models that start from latents."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from itertools import pairwise

from torch import Tensor

from gankit.checkpoints.layouts.base import dims


def widths(state: Mapping[str, Tensor], prefix: str) -> list[int]:
    """Widths of the input and of each linear layer of an ``nn.Sequential``.

    Args:
        state: tensors by name.
        prefix: before the layers' numbers, such as ``"layers."``.

    Returns:
        Two or more numbers; empty where there are no layers, or where one does not fit the one before it.
    """
    shapes = [dims(state, f"{prefix}{number}.weight") for number in numbers(state, prefix)]
    shapes = [shape for shape in shapes if len(shape) != 1]  # those are of norms
    if not shapes or any(len(shape) != 2 for shape in shapes):
        return []
    if any(before[0] != after[1] for before, after in pairwise(shapes)):
        return []
    return [shapes[0][1], *(shape[0] for shape in shapes)]


def numbers(state: Mapping[str, Tensor], prefix: str) -> list[int]:
    """Numbers of the layers of an ``nn.Sequential`` that have a weight, in order."""
    pattern = re.compile(re.escape(prefix) + r"(\d+)\.weight")
    return sorted(int(found[1]) for name in state if (found := pattern.fullmatch(name)))


def has_norm(state: Mapping[str, Tensor], prefix: str) -> bool:
    """Whether a layer of an ``nn.Sequential`` has running statistics."""
    return any(name.startswith(prefix) and name.endswith(".running_mean") for name in state)


def image(values: int) -> tuple[list[int], int] | None:
    """The size and the colours of a square image of 4×4 or more with that many values; ``None`` where none has them."""
    for channels in (1, 3):
        side = math.isqrt(values // channels)
        if side >= 4 and channels * side * side == values:
            return [side, side], channels
    return None
