"""Arithmetic on large images, a few rows at a time: wide intermediate values then fit the cache and little memory."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

_BYTES = 1 << 18


def by_strips(function: Callable[..., np.ndarray], out: np.ndarray, *arrays: np.ndarray) -> np.ndarray:
    """Compute an array strip by strip.

    Args:
        function: of strips of ``arrays``, giving the same rows of ``out``; converted to its dtype.
        out: (H, …), filled.
        arrays: each (H, …).

    Returns:
        ``out``.
    """
    rows = max(1, _BYTES * len(out) // max(1, arrays[0].nbytes))
    for top in range(0, len(out), rows):
        out[top : top + rows] = function(*(array[top : top + rows] for array in arrays))
    return out
