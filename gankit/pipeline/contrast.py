"""The contrast of an image, which decides whether a narrow precision may run it. Imports no torch."""

from __future__ import annotations

import math

import numpy as np

_STRIDE = 4


def has_contrast(pixels: np.ndarray, least: float) -> bool:
    """Whether the largest standard deviation of the channels reaches a number of levels.

    A part of n out of N pixels with standard deviation s proves that of all to be s·√(n/N) at least: the squared
    deviations of the part are among those of all, and are smallest around the part's own mean. So every fourth pixel
    of every fourth row is enough for most photographs.

    Args:
        pixels: (H, W, C) uint8.
        least: standard deviation in levels of 255.
    """
    part = pixels[::_STRIDE, ::_STRIDE]
    share = math.sqrt(part[..., 0].size / max(1, pixels[..., 0].size))
    return _deviation(part) * share >= least or _deviation(pixels) >= least


def _deviation(pixels: np.ndarray) -> float:
    """The largest standard deviation of the channels, from their histograms, exact to float64."""
    largest, levels = 0.0, np.arange(256)
    for channel in range(pixels.shape[2]):
        counts = np.bincount(pixels[..., channel].ravel(), minlength=256)
        mean = counts @ levels / max(1, counts.sum())
        largest = max(largest, float(counts @ (levels - mean) ** 2 / max(1, counts.sum())))
    return math.sqrt(largest)
