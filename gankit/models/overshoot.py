"""A bound on how far an upscaler's result may leave the pixels that it is made of."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from gankit.models.checks import Number, Optional
from gankit.models.options import option

REACH = 1  # pixels of the input on each side that a result is compared with


def overshoot_option() -> float | None:
    """The option ``overshoot`` of an upscaler, as a field of its dataclass."""
    made: float | None = option(
        None,
        Optional(Number(0, 16)),
        "How far results may leave the values of the 3×3 input pixels around them, as a part of the difference between "
        "the largest and the smallest of these, so that a flat area stays exactly flat; none for no bound",
        omit=True,
    )
    return made


class Overshoot(nn.Module):
    """Clamp every result to the values of the input around it, with room for sharp edges.

    A colour may lie between ``low - a·(high - low)`` and ``high + a·(high - low)``, where low and high are the
    smallest and the largest value of the 3×3 input pixels around the one that it belongs to, and a is the overshoot.
    Where all of them are equal, the result is equal to them: a network of convolutions alone only comes near that, and
    misses it where its zero padding looks like a black frame, at the border of a saturated area. With a = 1 the bound
    is hardly ever reached elsewhere.

    Args:
        scale: enlargement.
        overshoot: a.
    """

    def __init__(self, scale: int, overshoot: float) -> None:
        super().__init__()
        self.overshoot = overshoot
        self.largest = nn.MaxPool2d(2 * REACH + 1, stride=1, padding=REACH)
        self.enlarge_low = nn.Upsample(scale_factor=scale, mode="nearest")
        self.enlarge_high = nn.Upsample(scale_factor=scale, mode="nearest")

    def forward(self, x: Tensor, result: Tensor) -> Tensor:
        """(N, C, H, W) that the network got and (N, C, scale·H, scale·W) -> the same shape as the second."""
        high, low = self.largest(x), -self.largest(-x)
        room = (high - low) * self.overshoot
        result = torch.maximum(result, self.enlarge_low(low - room))
        return torch.minimum(result, self.enlarge_high(high + room))
