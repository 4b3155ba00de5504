"""Sample grids: images in rows and columns with a gap between them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate

import numpy as np

GAP = 2
PAPER = 255


@dataclass(frozen=True)
class GridLayout:
    """Where the cells of a grid lie.

    Attributes:
        heights: of the rows, in pixels.
        widths: of the columns.
        gap: pixels between rows and between columns.
    """

    heights: tuple[int, ...]
    widths: tuple[int, ...]
    gap: int = GAP

    def __post_init__(self) -> None:
        if not self.heights or not self.widths:
            raise ValueError("a sample grid needs at least one image")

    @classmethod
    def of_equal(cls, count: int, size: tuple[int, int], columns: int, gap: int = GAP) -> GridLayout:
        """The layout of equal images, row by row.

        Args:
            count: images.
            size: height and width of each.
            columns: images in a row; the grid has as many columns, even where there are fewer images.
            gap: pixels between images.

        Raises:
            ValueError: there are no images, or no columns.
        """
        rows = -(-count // columns) if columns > 0 else 0
        return cls((size[0],) * rows, (size[1],) * columns, gap)

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of the whole grid."""
        height = sum(self.heights) + self.gap * (len(self.heights) - 1)
        return height, sum(self.widths) + self.gap * (len(self.widths) - 1)

    def corner(self, index: int) -> tuple[int, int]:
        """Top and left of cell ``index``, counted row by row."""
        row, column = divmod(index, len(self.widths))
        return self._tops[row], self._lefts[column]

    @cached_property
    def _tops(self) -> list[int]:
        return list(accumulate((side + self.gap for side in self.heights), initial=0))

    @cached_property
    def _lefts(self) -> list[int]:
        return list(accumulate((side + self.gap for side in self.widths), initial=0))

    def blank(self, channels: int) -> np.ndarray:
        """The grid without any image, (H, W, channels) uint8, white."""
        return np.full((*self.shape, channels), PAPER, np.uint8)

    def paste(self, pixels: np.ndarray, index: int, image: np.ndarray) -> None:
        """Put (h, w, C) uint8 into the upper left of cell ``index`` of a grid's pixels."""
        top, left = self.corner(index)
        pixels[top : top + image.shape[0], left : left + image.shape[1]] = image


def grid(rows: Sequence[Sequence[np.ndarray]], gap: int = GAP) -> np.ndarray:
    """Lay images out in rows and columns, on white.

    A row is as high as its highest image, a column as wide as its widest; a smaller image lies in the upper left of
    its cell. Rows may have different numbers of images.

    Args:
        rows: (h, w, 1) or (h, w, 3) uint8 images.
        gap: pixels between rows and between columns.

    Returns:
        (H, W, 3) uint8.

    Raises:
        ValueError: there are no images, or one has neither 1 nor 3 channels.
    """
    images = [image for row in rows for image in row]
    for image in images:
        if image.ndim != 3 or image.shape[2] not in (1, 3):
            raise ValueError(f"an image of shape {image.shape} fits no sample grid: it needs 1 or 3 channels")
    columns = max((len(row) for row in rows), default=0)
    layout = GridLayout(
        tuple(max((image.shape[0] for image in row), default=0) for row in rows),
        tuple(max(row[column].shape[1] for row in rows if column < len(row)) for column in range(columns)),
        gap,
    )
    pixels = layout.blank(3)
    for number, row in enumerate(rows):
        for column, image in enumerate(row):
            layout.paste(pixels, number * columns + column, image)
    return pixels
