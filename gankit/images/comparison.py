"""Before and after in one image: what bicubic interpolation makes of a source, beside the result."""

from __future__ import annotations

from dataclasses import replace
from typing import TypeAlias

import numpy as np

from gankit.images.alpha import flatten
from gankit.images.decoded import DecodedImage
from gankit.images.grid import grid
from gankit.images.label import labelled
from gankit.images.resize import Box, Method, resize

Part: TypeAlias = tuple[int, int, int, int]
"""Left, top, right and bottom in whole pixels."""

_SIDE = 512
_GAP = 6
_SEARCH_SIDE = 256


def before_after(source: DecodedImage, result: DecodedImage, box: Box, name: str) -> np.ndarray:
    """Show a source, enlarged by bicubic interpolation, beside its result.

    The upper row shows the whole image in up to 512×512 pixels, and the lower row the part with the most detail, one
    pixel to one pixel, also in up to 512×512 pixels. Transparent images are laid on white.

    Args:
        source: the source.
        result: the result of any size.
        box: the part of the source that the result shows.
        name: label of the result.

    Returns:
        (H, W, 3) uint8.
    """
    source, result = plain(source), plain(result)
    after = Overview(_size(result))
    after.add(result.pixels)
    before = Overview(_size(source), after.shown, box)
    before.add(source.pixels)
    part = after.detail()
    return before_and_after(
        before.image("bicubic"),
        after.image("lanczos"),
        resize(source, (part[2] - part[0], part[3] - part[1]), source_part(part, _size(result), box), "bicubic").pixels,
        result.pixels[part[1] : part[3], part[0] : part[2]],
        name,
    )


def before_and_after(
    before: np.ndarray, after: np.ndarray, before_part: np.ndarray, after_part: np.ndarray, name: str
) -> np.ndarray:
    """Join the four images of a comparison, each (H, W, 3) uint8; ``name`` labels the result."""
    rows = (before, after), (before_part, after_part)
    labels = ("bicubic", name), ("bicubic, 1:1", f"{name}, 1:1")
    return grid(
        [
            [labelled(image, label) for image, label in zip(images, names, strict=True)]
            for images, names in zip(rows, labels, strict=True)
        ],
        _GAP,
    )


def source_part(part: Part, size: tuple[int, int], box: Box) -> Box:
    """Return the part of a source that a part of its result shows.

    Args:
        part: left, top, right and bottom in the result.
        size: width and height of the result.
        box: the part of the source that the whole result shows.
    """
    across, down = (box[2] - box[0]) / size[0], (box[3] - box[1]) / size[1]
    return box[0] + part[0] * across, box[1] + part[1] * down, box[0] + part[2] * across, box[1] + part[3] * down


class Overview:
    """Shows a whole image in a few pixels and finds its detail, while its rows arrive from the top.

    What is kept of the image has at most a few thousand pixels a side: means of square blocks, and single pixels.

    Args:
        size: width and height of the image.
        shown: width and height in which it is shown; ``None`` for up to 512×512 pixels.
        box: the part that is shown; ``None`` for all of it.

    Attributes:
        shown: as above.
    """

    def __init__(self, size: tuple[int, int], shown: tuple[int, int] | None = None, box: Box | None = None) -> None:
        self._size, self._box = size, box or (0, 0, *size)
        small = max(1, max(size) / _SIDE)
        self.shown = shown or (max(1, round(size[0] / small)), max(1, round(size[1] / small)))
        ratio = min((self._box[2] - self._box[0]) / self.shown[0], (self._box[3] - self._box[1]) / self.shown[1])
        self._block = max(1, int(ratio // 2))  # the filter does the rest
        self._step = max(1, max(size) // _SEARCH_SIDE)
        self._row, self._rest = 0, np.empty((0, size[0], 3), np.uint8)
        self._means: list[np.ndarray] = []
        self._green: list[np.ndarray] = []

    def add(self, pixels: np.ndarray) -> None:
        """Take the next rows, (n, W, 3) uint8."""
        first = -self._row % self._step
        self._green.append(pixels[first :: self._step, :: self._step, 1].copy())
        self._row += len(pixels)
        rows = np.concatenate([self._rest, pixels]) if len(self._rest) else pixels
        whole = len(rows) if self._row == self._size[1] else len(rows) // self._block * self._block
        if whole:
            self._means.append(_block_means(rows[:whole], self._block))
        self._rest = rows[whole:].copy()

    def image(self, method: Method) -> np.ndarray:
        """Return the small image, (H, W, 3) uint8, once all rows were taken."""
        left, top, right, bottom = (side / self._block for side in self._box)
        means = DecodedImage(np.concatenate(self._means))
        height, width = means.pixels.shape[:2]
        return resize(means, self.shown, (left, top, min(right, width), min(bottom, height)), method).pixels

    def detail(self) -> Part:
        """Return the part of up to 512×512 pixels with the strongest edges, once all rows were taken."""
        wide, tall = min(_SIDE, self._size[0]), min(_SIDE, self._size[1])
        left, top = _strongest(np.concatenate(self._green), self._size, self._step, wide, tall)
        return left, top, left + wide, top + tall


def _block_means(pixels: np.ndarray, side: int) -> np.ndarray:
    """Return the means of blocks of ``side``² pixels; those at the right and the lower edge may be smaller."""
    if side == 1:
        return pixels.copy()
    height, width = pixels.shape[:2]
    down, across = np.arange(0, height, side), np.arange(0, width, side)
    sums = np.add.reduceat(np.add.reduceat(pixels, down, axis=0, dtype=np.uint32), across, axis=1)
    counts = np.diff(down, append=height)[:, None, None] * np.diff(across, append=width)[:, None]
    means: np.ndarray = ((sums + counts // 2) // counts).astype(np.uint8)
    return means


def detail(source: DecodedImage, result: DecodedImage, side: int = _SIDE) -> tuple[np.ndarray, np.ndarray]:
    """Cut out the part of a result with the most detail, and the same part of its source.

    Args:
        source: the source; it is enlarged by bicubic interpolation to the size of the result.
        result: the result of any size. If it shows another part of the source, the two do not meet.
        side: largest width and height of the part in pixels.

    Returns:
        Source and result, both (H, W, 3) uint8. Transparent images are laid on white.
    """
    source, result = plain(source), plain(result)
    height, width = result.pixels.shape[:2]
    wide, tall = min(side, width), min(side, height)
    step = max(1, max(height, width) // _SEARCH_SIDE)
    left, top = _strongest(result.pixels[::step, ::step, 1], (width, height), step, wide, tall)
    across, down = source.pixels.shape[1] / width, source.pixels.shape[0] / height
    there = (left * across, top * down, (left + wide) * across, (top + tall) * down)
    part = (left, top, left + wide, top + tall)
    return resize(source, (wide, tall), there, "bicubic").pixels, resize(result, (wide, tall), part).pixels


def _size(image: DecodedImage) -> tuple[int, int]:
    return image.pixels.shape[1], image.pixels.shape[0]


def plain(image: DecodedImage) -> DecodedImage:
    """Return an image in 8 bits without transparency."""
    image = image.to_8bit()
    return image if image.alpha is None else replace(image, pixels=flatten(image.pixels, image.alpha), alpha=None)


def _strongest(green: np.ndarray, size: tuple[int, int], step: int, width: int, height: int) -> tuple[int, int]:
    """Return left and top of the part of this size with the strongest edges; the middle one of equal parts.

    Args:
        green: (H, W) uint8, every ``step``-th pixel of an image.
        size: width and height of that image.
        step: see there.
        width: width of the part.
        height: height of the part.
    """
    wide, tall = size
    gray = green.astype(np.float64)
    edges = np.zeros_like(gray)
    edges[:, 1:] += np.abs(np.diff(gray, axis=1))
    edges[1:] += np.abs(np.diff(gray, axis=0))
    sums = np.pad(edges, ((1, 0), (1, 0))).cumsum(0).cumsum(1)  # of all edges above and to the left
    rows, columns = min(len(gray), max(1, height // step)), min(gray.shape[1], max(1, width // step))
    inside = sums[rows:, columns:] - sums[:-rows, columns:] - sums[rows:, :-columns] + sums[:-rows, :-columns]
    best = np.argwhere(inside >= inside.max() * (1 - 1e-9))
    middle = (np.array(inside.shape) - 1) / 2
    top, left = best[np.abs(best - middle).sum(axis=1).argmin()] * step
    return min(int(left), wide - width), min(int(top), tall - height)
