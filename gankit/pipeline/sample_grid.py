"""Place many small images on one sample grid."""

from __future__ import annotations

import math

import numpy as np

from gankit.images.grid import GAP, GridLayout

__all__ = ["GAP", "SampleGrid"]


class SampleGrid:
    """A grid of equal images that is filled image by image, with a white gap between them.

    Args:
        count: number of images.
        size: height and width of each image in pixels.
        channels: 1 or 3.
        columns: images per row; ``None`` makes the grid about square.
    """

    def __init__(self, count: int, size: tuple[int, int], channels: int, columns: int | None = None) -> None:
        self.size = size
        self.columns = min(count, columns or math.ceil(math.sqrt(count)))
        self._layout = GridLayout.of_equal(count, size, self.columns)
        self.shape = self._layout.shape
        self._channels = channels
        self._pixels: np.ndarray | None = None

    @property
    def pixels(self) -> np.ndarray:
        """The grid as (H, W, C) uint8."""
        if self._pixels is None:
            self._pixels = self._layout.blank(self._channels)
        return self._pixels

    def place(self, index: int, image: np.ndarray) -> None:
        """Place an image, (height, width, C) uint8, in cell ``index``."""
        self._layout.paste(self.pixels, index, image)
