"""Images for the eye: the same crop from several models, side by side, at one pixel to one pixel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from gankit.evaluation.benchmark import Upscale, bicubic
from gankit.evaluation.metrics import DecodedImage, psnr_y
from gankit.images.grid import grid
from gankit.images.label import labelled

Box = tuple[int, int, int, int]
"""x, y, width, height in pixels of the large image."""

_DEFAULT_SIDE = 240
_LARGE_SIDE = 512
_GAP = 6


@dataclass(frozen=True)
class Panel:
    """One image of a comparison.

    Attributes:
        label: what stands above it.
        image: (H, W, 3) uint8.
    """

    label: str
    image: DecodedImage


def side_by_side(panels: Sequence[Panel], crop: Box | None = None) -> Image.Image:
    """Panels from left to right, each the same crop, never resized, with its label above it.

    Args:
        panels: images of one size.
        crop: x, y, width, height; ``None`` takes up to 240×240 pixels from the middle.

    Raises:
        ValueError: no panels, images of different sizes, or a crop outside them.
    """
    if not panels:
        raise ValueError("a comparison needs at least one image")
    shapes = {panel.image.shape for panel in panels}
    if len(shapes) > 1:
        raise ValueError(f"images of different sizes: {sorted(shapes)}")
    x, y, width, height = _checked(crop, panels[0].image)
    cells = [labelled(panel.image[y : y + height, x : x + width], panel.label) for panel in panels]
    return Image.fromarray(grid([cells], _GAP))


def compare_upscalers(
    lr: DecodedImage,
    upscalers: Mapping[str, Upscale],
    scale: int,
    hr: DecodedImage | None = None,
    crop: Box | None = None,
) -> Image.Image:
    """Input (nearest neighbour) | bicubic | each upscaler | truth, with PSNR Y where the truth is known.

    Args:
        lr: (h, w, 3) uint8.
        upscalers: by label, in order.
        scale: their factor.
        hr: (scale·h, scale·w, 3) uint8, or ``None``.
        crop: see :func:`side_by_side`; in pixels of the large image.
    """
    nearest = lr.repeat(scale, axis=0).repeat(scale, axis=1)
    panels = [Panel(f"input, ×{scale} nearest", nearest)]
    for label, upscale in {"bicubic": bicubic(scale), **upscalers}.items():
        result = upscale(lr)
        figure = "" if hr is None else f" {psnr_y(result, hr, scale):.2f} dB"
        panels.append(Panel(label + figure, result))
    if hr is not None:
        panels.append(Panel("truth", hr))
    return side_by_side(panels, crop)


def compare_translations(
    source: DecodedImage,
    results: Mapping[str, DecodedImage],
    target: DecodedImage | None = None,
    crop: Box | None = None,
) -> Image.Image:
    """Input | each result | target, at one pixel to one pixel.

    Args:
        source: (H, W, 3) uint8.
        results: of the same shape, by label, in order.
        target: of the same shape, or ``None``.
        crop: x, y, width, height; ``None`` takes up to 512×512 pixels from the middle.

    Raises:
        ValueError: see :func:`side_by_side`.
    """
    if crop is None:
        high, wide = source.shape[:2]
        width, height = min(_LARGE_SIDE, wide), min(_LARGE_SIDE, high)
        crop = (wide - width) // 2, (high - height) // 2, width, height
    panels = [Panel("input", source), *(Panel(label, result) for label, result in results.items())]
    return side_by_side(panels if target is None else [*panels, Panel("target", target)], crop)


def stack(comparisons: Sequence[Image.Image]) -> Image.Image:
    """Comparisons below each other.

    Raises:
        ValueError: there are none.
    """
    return Image.fromarray(grid([[np.asarray(comparison)] for comparison in comparisons], _GAP))


def _checked(crop: Box | None, image: DecodedImage) -> Box:
    high, wide = image.shape[:2]
    if crop is None:
        width, height = min(_DEFAULT_SIDE, wide), min(_DEFAULT_SIDE, high)
        return (wide - width) // 2, (high - height) // 2, width, height
    x, y, width, height = crop
    if x < 0 or y < 0 or width < 1 or height < 1 or x + width > wide or y + height > high:
        raise ValueError(f"the crop {x},{y},{width},{height} is not inside an image of {wide}×{high}")
    return crop
