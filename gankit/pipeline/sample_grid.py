"""Many small images on one sample grid."""

from __future__ import annotations

import math

import numpy as np

GAP = 2
_PAPER = 255


class SampleGrid:
    """A grid of equal images, row by row, with a white gap between them.

    Args:
        count: images.
        size: height and width of each.
        channels: 1 or 3.
        columns: images in a row; ``None`` for about as many as rows.
    """

    def __init__(self, count: int, size: tuple[int, int], channels: int, columns: int | None = None) -> None:
        self.size = size
        self.columns = min(count, columns or math.ceil(math.sqrt(count)))
        rows = -(-count // self.columns)
        self.shape = (rows * (size[0] + GAP) - GAP, self.columns * (size[1] + GAP) - GAP)
        self._channels = channels
        self._pixels: np.ndarray | None = None

    @property
    def pixels(self) -> np.ndarray:
        """(H, W, C) uint8."""
        if self._pixels is None:
            self._pixels = np.full((*self.shape, self._channels), _PAPER, np.uint8)
        return self._pixels

    def place(self, index: int, image: np.ndarray) -> None:
        """Put (height, width, C) uint8 into cell ``index``."""
        (row, column), (height, width) = divmod(index, self.columns), self.size
        top, left = row * (height + GAP), column * (width + GAP)
        self.pixels[top : top + height, left : left + width] = image
