"""Where a plane is flat, which upscaling must keep exactly. Imports no torch."""

from __future__ import annotations

import numpy as np

_Index = tuple[slice, slice]


def flat_around(plane: np.ndarray, window: int) -> np.ndarray:
    """Find the pixels whose neighbours all have the same value.

    Args:
        plane: (H, W) integers.
        window: side of the square around each pixel, odd. Outside of the plane there are no neighbours.

    Returns:
        (H, W) booleans.
    """
    flat = np.ones(plane.shape, bool)
    for axis in (0, 1):
        # A square is flat if each of its columns is, and if the pixels of its middle row are equal.
        flat = _all_along(flat, window // 2, axis) & _equal_along(plane, window // 2, axis)
    return flat


def _equal_along(plane: np.ndarray, pad: int, axis: int) -> np.ndarray:
    """Whether the neighbours along an axis, up to ``pad`` pixels away, are equal to the pixel itself."""
    same = np.ones(plane.shape, bool)
    for step in range(1, pad + 1):
        here, there = _shifted(axis, step)
        equal = plane[here] == plane[there]
        same[here] &= equal
        same[there] &= equal
    return same


def _all_along(mask: np.ndarray, pad: int, axis: int) -> np.ndarray:
    """Whether a mask is set at all neighbours along an axis."""
    every = mask.copy()
    for step in range(1, pad + 1):
        here, there = _shifted(axis, step)
        every[here] &= mask[there]
        every[there] &= mask[here]
    return every


def _shifted(axis: int, step: int) -> tuple[_Index, _Index]:
    """Return the indices of the pixels and of those that are ``step`` further along an axis."""
    here, there = slice(None, -step), slice(step, None)
    every = slice(None)
    return ((here, every), (there, every)) if axis == 0 else ((every, here), (every, there))
