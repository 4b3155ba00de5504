"""Before and after in one image: what bicubic interpolation makes of a source, beside the result."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from gankit.images.alpha import flatten
from gankit.images.decoded import DecodedImage
from gankit.images.grid import grid
from gankit.images.label import labelled
from gankit.images.resize import Box, resize

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
    source, result = _plain(source), _plain(result)
    height, width = result.pixels.shape[:2]
    small = max(1, max(width, height) / _SIDE)
    whole = max(1, round(width / small)), max(1, round(height / small))
    wide, tall = min(_SIDE, width), min(_SIDE, height)
    left, top = _detail(result.pixels, wide, tall)
    part = (left, top, left + wide, top + tall)
    across, down = (box[2] - box[0]) / width, (box[3] - box[1]) / height
    there = (box[0] + part[0] * across, box[1] + part[1] * down, box[0] + part[2] * across, box[1] + part[3] * down)
    rows = (
        (resize(source, whole, box, "bicubic"), resize(result, whole)),
        (resize(source, (wide, tall), there, "bicubic"), resize(result, (wide, tall), part)),
    )
    labels = ("bicubic", name), ("bicubic, 1:1", f"{name}, 1:1")
    return grid(
        [
            [labelled(image.pixels, label) for image, label in zip(images, names, strict=True)]
            for images, names in zip(rows, labels, strict=True)
        ],
        _GAP,
    )


def detail(source: DecodedImage, result: DecodedImage, side: int = _SIDE) -> tuple[np.ndarray, np.ndarray]:
    """Cut out the part of a result with the most detail, and the same part of its source.

    Args:
        source: the source; it is enlarged by bicubic interpolation to the size of the result.
        result: the result of any size. If it shows another part of the source, the two do not meet.
        side: largest width and height of the part in pixels.

    Returns:
        Source and result, both (H, W, 3) uint8. Transparent images are laid on white.
    """
    source, result = _plain(source), _plain(result)
    height, width = result.pixels.shape[:2]
    wide, tall = min(side, width), min(side, height)
    left, top = _detail(result.pixels, wide, tall)
    across, down = source.pixels.shape[1] / width, source.pixels.shape[0] / height
    there = (left * across, top * down, (left + wide) * across, (top + tall) * down)
    part = (left, top, left + wide, top + tall)
    return resize(source, (wide, tall), there, "bicubic").pixels, resize(result, (wide, tall), part).pixels


def _plain(image: DecodedImage) -> DecodedImage:
    """Return an image in 8 bits without transparency."""
    image = image.to_8bit()
    return image if image.alpha is None else replace(image, pixels=flatten(image.pixels, image.alpha), alpha=None)


def _detail(pixels: np.ndarray, width: int, height: int) -> tuple[int, int]:
    """Return left and top of the part of this size with the strongest edges; the middle one of equal parts.

    Args:
        pixels: (H, W, 3) uint8.
        width: width of the part, at most W.
        height: height of the part, at most H.
    """
    tall, wide = pixels.shape[:2]
    step = max(1, max(tall, wide) // _SEARCH_SIDE)
    gray = pixels[::step, ::step, 1].astype(np.float64)
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
