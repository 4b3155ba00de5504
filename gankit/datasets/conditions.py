"""Conditions under which upscalers are measured: a small image as it is, as a JPEG, and with a sensor's noise.

Nothing here imports torch.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Literal, get_args

import numpy as np
from PIL import Image

ConditionName = Literal["clean", "q90", "q75", "q50", "noise5", "noise5_q75"]
Condition = Callable[[np.ndarray, int], np.ndarray]


def jpeg(pixels: np.ndarray, quality: int, *, subsampled: bool) -> np.ndarray:
    """What is left of an image that was stored as JPEG.

    Args:
        pixels: (H, W, 3) uint8.
        quality: as Pillow and libjpeg count, 1 to 95.
        subsampled: 4:2:0, else 4:4:4.

    Returns:
        (H, W, 3) uint8.
    """
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=quality, subsampling=2 if subsampled else 0)
    with Image.open(buffer, formats=("JPEG",)) as image:
        return np.asarray(image)


def noisy(pixels: np.ndarray, deviation: float, seed: int) -> np.ndarray:
    """(H, W, 3) uint8 with Gaussian noise of a standard deviation in 8-bit levels."""
    noise = np.random.default_rng(seed).standard_normal(pixels.shape) * deviation
    result: np.ndarray = np.rint(pixels + noise).clip(0, 255).astype(np.uint8)
    return result


CONDITIONS: Mapping[ConditionName, Condition] = MappingProxyType(
    {
        "clean": lambda small, seed: small,
        "q90": lambda small, seed: jpeg(small, 90, subsampled=True),
        "q75": lambda small, seed: jpeg(small, 75, subsampled=True),
        "q50": lambda small, seed: jpeg(small, 50, subsampled=True),
        "noise5": lambda small, seed: noisy(small, 5, seed),
        "noise5_q75": lambda small, seed: jpeg(noisy(small, 5, seed), 75, subsampled=True),
    }
)
"""What is done to a small image, (H, W, 3) uint8, before it is upscaled, by name: nothing; JPEG (4:2:0) of quality 90,
75 or 50; Gaussian noise of 5 levels; that noise and then JPEG of quality 75. The number is the seed of the noise."""

CONDITION_NAMES: tuple[ConditionName, ...] = get_args(ConditionName)
