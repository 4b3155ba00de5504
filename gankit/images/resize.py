"""Resize decoded images with Pillow, also in 16 bit and with transparency."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal, TypeAlias

import numpy as np
from PIL import Image

from gankit.images.decoded import DecodedImage

Box: TypeAlias = tuple[float, float, float, float]
"""Left, top, right and bottom in pixels."""

_FILTERS = {"lanczos": Image.Resampling.LANCZOS, "bicubic": Image.Resampling.BICUBIC}


def resize(
    image: DecodedImage,
    size: tuple[int, int],
    box: Box | None = None,
    method: Literal["lanczos", "bicubic"] = "lanczos",
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
    if image.pixels.dtype == np.uint8:
        resized = _resized(image.pixels, size, box, method)
        alpha = None if image.alpha is None else _resized(image.alpha, size, box, method)
        return replace(image, pixels=resized, alpha=alpha)
    planes = [_deep(np.ascontiguousarray(image.pixels[..., index]), size, box, method) for index in range(3)]
    alpha = None if image.alpha is None else _deep(image.alpha, size, box, method)
    return replace(image, pixels=np.stack(planes, axis=2), alpha=alpha)


def _resized(samples: np.ndarray, size: tuple[int, int], box: Box, method: str) -> np.ndarray:
    """Resize (H, W) or (H, W, 3) uint8."""
    return np.array(Image.fromarray(samples).resize(size, _FILTERS[method], box))


def _deep(plane: np.ndarray, size: tuple[int, int], box: Box, method: str) -> np.ndarray:
    """Resize (H, W) uint16 in float32, which holds its values exactly; or float32, which may reach beyond its range."""
    values = np.asarray(Image.fromarray(plane.astype(np.float32)).resize(size, _FILTERS[method], box))
    if plane.dtype.kind == "f":
        return values.copy()
    rounded: np.ndarray = np.rint(values).clip(0, 65535).astype(np.uint16)
    return rounded
