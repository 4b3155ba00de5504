"""The end of networks in which ``model`` numbers all layers: xinntao's first code, and KAIR's after it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from gankit.checkpoints.layouts.base import dims
from gankit.checkpoints.layouts.stacks import numbers


@dataclass(frozen=True)
class End:
    """What follows the body.

    Attributes:
        rules: for ``rename``, to the names of ``upsampler``, ``last`` and ``tail``.
        enlarges: the product of all enlargements.
        upsampler: ``"nearest"`` or ``"shuffle"``.
        last: shape of the last kernel.
    """

    rules: list[tuple[str, str]]
    enlarges: int
    upsampler: str
    last: tuple[int, ...]


def numbered_rules(state: Mapping[str, Tensor]) -> End | None:
    """Read ``model.2``, ``model.3``, …: the convolutions of the upsampler, and two more; ``None`` for fewer.

    A convolution that returns more channels than it takes precedes a PixelShuffle, and the layers are in the order
    convolution, shuffle, activation; otherwise the order is enlargement, convolution, activation.
    """
    found = [number for number in numbers(state, "model.") if number > 1]
    shapes = [dims(state, f"model.{number}.weight") for number in found]
    if len(found) < 2 or any(len(shape) != 4 or 0 in shape for shape in shapes):
        return None
    steps = [math.isqrt(shape[0] // shape[1]) for shape in shapes[:-2]]
    shuffle = any(step > 1 for step in steps)
    layer = 0 if shuffle else 1
    rules = [(rf"model\.{number}\.", f"upsampler.{index}.{layer}.") for index, number in enumerate(found[:-2])]
    rules += [(rf"model\.{found[-2]}\.", "last.0."), (rf"model\.{found[-1]}\.", "tail.")]
    enlarges = math.prod(steps) if shuffle else 2 ** len(steps)
    return End(rules, enlarges, "shuffle" if shuffle else "nearest", shapes[-1])
