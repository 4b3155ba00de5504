"""How well a mask covers the true one: Dice and intersection over union.

Where both masks are empty the two figures are 0/0. The convention here: they are not a number, and such pairs are
counted and left out of means (as MONAI's ``DiceMetric`` does by default). A perfect score for them would reward a
network that finds nothing, and files that were read as black.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.bool_]

RESULT_FROM = 128  # a generator's gray is its certainty: from one half on


def to_mask(image: NDArray[np.uint8], least: int = RESULT_FROM) -> Mask:
    """What of a generator's output is mask: where the mean of its channels is at least ``least``.

    This is for results, whose gray is a certainty. True masks are read by
    :func:`gankit.datasets.indices.to_masks`.

    Args:
        image: (H, W) or (H, W, C) uint8.
        least: of 255.

    Returns:
        (H, W) boolean.
    """
    values = image if image.ndim == 2 else image.mean(axis=-1)
    return np.asarray(values >= least)


def dice(result: Mask, target: Mask) -> float:
    """Dice's coefficient, 2 |A ∩ B| / (|A| + |B|) (Dice 1945, doi:10.2307/1932409).

    Args:
        result: boolean, any shape.
        target: the truth, same shape.

    Returns:
        From 0, apart, to 1, equal; NaN for two empty masks.

    Raises:
        ValueError: not boolean, or different shapes.
    """
    both, either = _counts(result, target)
    return 2 * both / (both + either) if either else math.nan


def iou(result: Mask, target: Mask) -> float:
    """Intersection over union, |A ∩ B| / |A ∪ B| (Jaccard 1912, doi:10.1111/j.1469-8137.1912.tb05611.x).

    It is Dice / (2 - Dice). Args, errors and range as for :func:`dice`.
    """
    both, either = _counts(result, target)
    return both / either if either else math.nan


def _counts(result: Mask, target: Mask) -> tuple[int, int]:
    """Pixels of the intersection and of the union."""
    for name, mask in (("result", result), ("target", target)):
        if mask.dtype != np.bool_:
            raise ValueError(f"{name} must be boolean, not {mask.dtype}")
    if result.shape != target.shape:
        raise ValueError(f"shapes differ: result {result.shape}, target {target.shape}")
    return int(np.count_nonzero(result & target)), int(np.count_nonzero(result | target))
