"""Which rows (or columns) of its input a layer reads, as numbers. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from math import floor


@dataclass(frozen=True)
class Window:
    """What a layer reads along one axis, as if the image had no border.

    Output row ``o`` comes from the input rows ``floor(o / rate + low)`` to ``floor(o / rate + high)``. Every layer that
    does the same everywhere has such a window: a convolution of stride t, padding p, dilation d and k taps has the rate
    1 / t and the window -p to d·(k - 1) - p; ``PixelShuffle(r)`` has the rate r and the window 0 to 0.

    Attributes:
        rate: output rows for each input row.
        low: the first input row, relative to ``o / rate``.
        high: the last one.
    """

    rate: Fraction = Fraction(1)
    low: Fraction = Fraction(0)
    high: Fraction = Fraction(0)

    def needs(self, start: int, stop: int) -> tuple[int, int]:
        """The input rows that output rows are made of; they may lie outside the image.

        Args:
            start: the first output row.
            stop: one behind the last.

        Returns:
            The first input row, and one behind the last.
        """
        return floor(start / self.rate + self.low), floor((stop - 1) / self.rate + self.high) + 1


SAME = Window()
