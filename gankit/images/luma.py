"""Full-range luma, for turning colour into gray."""

from __future__ import annotations

import numpy as np

from gankit.images.strips import by_strips

_WEIGHTS = (19595, 38470, 7471)  # 0.299, 0.587, 0.114 in 65536ths
_ONE = 65536


def luma(pixels: np.ndarray) -> np.ndarray:
    """The full-range luma of ITU-R BT.601: 0.299 R + 0.587 G + 0.114 B, rounded to the nearest.

    Args:
        pixels: (H, W, 3) RGB, uint8, uint16 or float32.

    Returns:
        (H, W), the same dtype; the value itself where the three channels are equal.
    """

    def weigh(part: np.ndarray) -> np.ndarray:
        # uint32 holds it: the weights sum up to 65536, and 65535 · 65536 + 32768 < 2³²
        total = sum(part[..., index].astype(np.uint32) * weight for index, weight in enumerate(_WEIGHTS))
        rounded: np.ndarray = (np.asarray(total, dtype=np.uint32) + 32768) >> 16
        return rounded

    def weigh_floats(part: np.ndarray) -> np.ndarray:
        # In double precision, because three equal channels must keep their value to the last bit of float32.
        wide = part.astype(np.float64)
        return np.asarray(sum(wide[..., index] * (weight / _ONE) for index, weight in enumerate(_WEIGHTS)))

    if pixels.dtype.kind == "f":
        return by_strips(weigh_floats, np.empty(pixels.shape[:2], pixels.dtype), pixels)
    return by_strips(weigh, np.empty(pixels.shape[:2], pixels.dtype), pixels)
