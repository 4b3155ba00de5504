"""Resize decoded images with Pillow, also in 16 bit and with transparency, whole or as their rows arrive.

Both compute the same blocks of rows, so that an image whose rows arrive gets exactly the pixels of a whole one. The
coefficients of a block are those of Pillow for the whole image, but for the rounding of the positions in floating
point.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Iterable
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

import numpy as np
from PIL import Image

from gankit.images.decoded import DecodedImage

Box: TypeAlias = tuple[float, float, float, float]
"""Left, top, right and bottom in pixels."""

Method: TypeAlias = Literal["lanczos", "bicubic"]

_FILTERS = {"lanczos": Image.Resampling.LANCZOS, "bicubic": Image.Resampling.BICUBIC}
_SUPPORT = {"lanczos": 3, "bicubic": 2}
_ROWS = 256  # of a block, before or after resizing, whichever is more
_MARGIN = 2  # rows beyond those that a block depends on
_PILLOW_BYTES = 4  # of a pixel in Pillow's memory


def resize(
    image: DecodedImage, size: tuple[int, int], box: Box | None = None, method: Method = "lanczos"
) -> DecodedImage:
    """Resize an image, or a part of it. When it becomes smaller, the filter is widened so that nothing aliases.

    Colours and transparency are resized apart. Fully transparent pixels should therefore have the colours of their
    neighbours, as :func:`gankit.images.bleed` gives them.

    Args:
        image: any.
        size: width and height of the result in pixels.
        box: part of the image to resize; ``None`` takes all of it.
        method: ``"lanczos"`` (three lobes) or ``"bicubic"`` (a = -0.5), as in Pillow.

    Returns:
        The resized image with the same depth and metadata.
    """
    height, width = image.pixels.shape[:2]
    box = box or (0, 0, width, height)
    if size == (width, height) and box == (0, 0, width, height):
        return image
    pixels = np.empty((size[1], size[0], 3), image.pixels.dtype)
    alpha = None if image.alpha is None else np.empty(pixels.shape[:2], image.alpha.dtype)
    for block in _blocks(height, size[1], box, method):
        part = _resized(_rows(image, block.first, block.last), size[0], block, method)
        pixels[block.top : block.bottom] = part.pixels
        if alpha is not None:
            alpha[block.top : block.bottom] = part.alpha
    return replace(image, pixels=pixels, alpha=alpha)


def resize_strips(
    strips: Iterable[DecodedImage],
    source: tuple[int, int],
    size: tuple[int, int],
    box: Box | None = None,
    method: Method = "lanczos",
    *,
    begin: int = 0,
    rows: tuple[int, int] | None = None,
) -> Generator[DecodedImage, None, None]:
    """Resize an image whose strips arrive from the top, as :func:`resize` resizes a whole one.

    Args:
        strips: the image in strips of its full width. Each may use the memory of the previous one.
        source: width and height of the image in pixels.
        size: width and height of the result in pixels.
        box: part of the image to resize; ``None`` takes all of it.
        method: see :func:`resize`.
        begin: row of the image with which the strips begin.
        rows: first row of the result that is wanted and the row behind the last one; ``None`` for all.

    Yields:
        The strips of the result from the top, with some rows around those that are wanted. Strips that no longer count
        are not asked for.
    """
    box = box or (0, 0, *source)
    arriving, kept, start, stop = iter(strips), list[DecodedImage](), begin, begin
    if size == source and box == (0, 0, *source):
        yield from arriving
        return
    for block in _wanted(source[1], size[1], box, method, rows):
        while stop < block.last:
            strip = next(arriving)
            stop += len(strip.pixels)
            kept.append(_copy(strip))
            while kept and start + len(kept[0].pixels) <= block.first:
                start += len(kept.pop(0).pixels)
        kept = [_joined(kept, block.first - start)]
        start = block.first
        yield _resized(_rows(kept[0], 0, block.last - start), size[0], block, method)


def rows_behind(
    source: tuple[int, int], size: tuple[int, int], box: Box, method: Method, rows: tuple[int, int]
) -> tuple[int, int, int]:
    """Return which rows :func:`resize_strips` needs for some rows of the result, and with which row of that it begins.

    Args:
        source: as there, as are the others.
        size: see there.
        box: see there.
        method: see there.
        rows: see there.

    Returns:
        First row of the source and the row behind the last one; first row of the first strip that it yields.
    """
    blocks = _wanted(source[1], size[1], box, method, rows)
    return blocks[0].first, blocks[-1].last, blocks[0].top


def window_bytes(source: tuple[int, int], size: tuple[int, int], box: Box, method: Method, pixel_bytes: int) -> int:
    """Estimate the memory that :func:`resize_strips` takes besides the strips that arrive.

    Args:
        source: as there, as are the next three.
        size: see there.
        box: see there.
        method: see there.
        pixel_bytes: bytes of a pixel.
    """
    blocks = _blocks(source[1], size[1], box, method)
    before, after = max(each.last - each.first for each in blocks), blocks[0].bottom
    window = before * (source[0] * (2 * pixel_bytes + _PILLOW_BYTES) + size[0] * _PILLOW_BYTES)
    return window + after * size[0] * (_PILLOW_BYTES + 2 * pixel_bytes)


@dataclass(frozen=True)
class _Block:
    """Rows of a result and what they depend on.

    Attributes:
        top: first row of the result.
        bottom: row behind the last one.
        first: first row of the source that they depend on.
        last: row behind the last one.
        box: the part of those rows that is resized.
    """

    top: int
    bottom: int
    first: int
    last: int
    box: Box


def _blocks(before: int, after: int, box: Box, method: Method) -> list[_Block]:
    """Return the blocks of a result of ``after`` rows, whose source has ``before``."""
    left, upper, right, lower = box
    ratio = (lower - upper) / after
    reach = _SUPPORT[method] * max(1.0, ratio) + _MARGIN
    rows = max(1, int(_ROWS / max(1.0, ratio)))
    blocks = []
    for top in range(0, after, rows):
        bottom = min(top + rows, after)
        begin = upper + top * ratio
        end = lower if bottom == after else upper + bottom * ratio
        first, last = max(0, math.floor(begin - reach)), min(before, math.ceil(end + reach))
        blocks.append(_Block(top, bottom, first, last, (left, begin - first, right, min(end - first, last - first))))
    return blocks


def _wanted(before: int, after: int, box: Box, method: Method, rows: tuple[int, int] | None) -> list[_Block]:
    """Return the blocks that hold some rows of a result."""
    first, last = rows or (0, after)
    return [each for each in _blocks(before, after, box, method) if each.bottom > first and each.top < last]


def _rows(image: DecodedImage, first: int, last: int) -> DecodedImage:
    alpha = None if image.alpha is None else image.alpha[first:last]
    return replace(image, pixels=image.pixels[first:last], alpha=alpha)


def _copy(strip: DecodedImage) -> DecodedImage:
    return replace(strip, pixels=strip.pixels.copy(), alpha=None if strip.alpha is None else strip.alpha.copy())


def _joined(strips: list[DecodedImage], skipped: int) -> DecodedImage:
    """Return strips as one image without its first rows. Empties the list, to release what was joined."""
    if len(strips) == 1:
        return _rows(strips[0], skipped, len(strips[0].pixels))
    head = strips[0]
    alpha = None if head.alpha is None else np.concatenate([each.alpha for each in strips if each.alpha is not None])
    pixels = np.concatenate([each.pixels for each in strips])
    strips.clear()
    return _rows(replace(head, pixels=pixels, alpha=alpha), skipped, len(pixels))


def _resized(image: DecodedImage, width: int, block: _Block, method: Method) -> DecodedImage:
    """Resize the rows that a block depends on."""
    size = width, block.bottom - block.top
    if image.pixels.dtype == np.uint8:
        pixels = _plain(image.pixels, size, block.box, method)
        alpha = None if image.alpha is None else _plain(image.alpha, size, block.box, method)
    else:
        planes = [_deep(image.pixels[..., index], size, block.box, method) for index in range(3)]
        pixels = np.stack(planes, axis=2)
        alpha = None if image.alpha is None else _deep(image.alpha, size, block.box, method)
    return replace(image, pixels=pixels, alpha=alpha)


def _plain(samples: np.ndarray, size: tuple[int, int], box: Box, method: Method) -> np.ndarray:
    """Resize (H, W) or (H, W, 3) uint8."""
    return np.array(Image.fromarray(samples).resize(size, _FILTERS[method], box))


def _deep(plane: np.ndarray, size: tuple[int, int], box: Box, method: Method) -> np.ndarray:
    """Resize (H, W) uint16 in float32, which holds its values exactly; or float32, which may reach beyond its range."""
    contiguous = np.ascontiguousarray(plane, np.float32)
    values = np.asarray(Image.fromarray(contiguous).resize(size, _FILTERS[method], box))
    if plane.dtype.kind == "f":
        return values.copy()
    rounded: np.ndarray = np.rint(values).clip(0, 65535).astype(np.uint16)
    return rounded
