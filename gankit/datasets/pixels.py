"""What is done to the pixels of a data set's images: gray, another size, a square."""

from __future__ import annotations

import numpy as np
from PIL import Image

from gankit.datasets.options import Fit
from gankit.images import luma


def to_gray(pixels: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8 RGB as (H, W) uint8: :func:`gankit.images.luma`."""
    return luma(pixels)


def resized(
    pixels: np.ndarray, size: tuple[int, int], box: tuple[int, int, int, int] | None = None, *, exact: bool = False
) -> np.ndarray:
    """A part of (H, W, C) uint8 at another size, by antialiased bicubic, or by the nearest pixel if ``exact``.

    Args:
        pixels: C is 1 or 3.
        size: height and width of the result.
        box: top, left, bottom and right of the part; ``None`` for all.
        exact: no new values, as masks and labels need.
    """
    top, left, bottom, right = box or (0, 0, *pixels.shape[:2])
    if (bottom - top, right - left) == size:
        return pixels[top:bottom, left:right]
    image = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
    how = Image.Resampling.NEAREST if exact else Image.Resampling.BICUBIC
    result = np.asarray(image.resize(size[::-1], how, box=(left, top, right, bottom)))
    return result[..., None] if result.ndim == 2 else result


def fitted(image: np.ndarray, side: int, fit: Fit) -> np.ndarray:
    """An image of any size as a square one.

    Args:
        image: (H, W) or (H, W, 3) uint8.
        side: of the result.
        fit: ``"resize"``: the middle square, resized by antialiased bicubic; ``"pad"``: in the middle of black, every
            pixel as it is.

    Returns:
        (side, side) or (side, side, 3) uint8.

    Raises:
        ValueError: it is larger than ``side`` and may only be padded.
    """
    height, width = image.shape[:2]
    if (height, width) == (side, side):
        return image
    if fit == "pad":
        if max(height, width) > side:
            raise ValueError(f"an image of {width}×{height} cannot be padded to {side}×{side}; resize it")
        top, left = (side - height) // 2, (side - width) // 2
        margins = [(top, side - height - top), (left, side - width - left)]
        return np.pad(image, margins + [(0, 0)] * (image.ndim - 2))
    least = min(height, width)
    top, left = (height - least) // 2, (width - least) // 2
    middle = np.ascontiguousarray(image[top : top + least, left : left + least])
    return np.asarray(Image.fromarray(middle).resize((side, side), Image.Resampling.BICUBIC))
