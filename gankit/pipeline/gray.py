"""Images in three equal channels, which must not come out tinted."""

from __future__ import annotations

import numpy as np

from gankit.images.strips import by_strips

_COMPARED_PIXELS = 1 << 16


def equal_channels(pixels: np.ndarray) -> bool:
    """Whether the channels of (H, W, C) are equal everywhere. It stops at the first rows where they are not."""
    rows = max(1, _COMPARED_PIXELS // max(1, pixels.shape[1]))
    return all(
        bool((pixels[top : top + rows, :, 1:] == pixels[top : top + rows, :, :1]).all())
        for top in range(0, len(pixels), rows)
    )


def equalise(pixels: np.ndarray) -> None:
    """Set all channels of (H, W, C) to their mean, in place. Integers are rounded to the nearest, half up."""
    count = pixels.shape[2]

    def mean(part: np.ndarray) -> np.ndarray:
        if part.dtype.kind == "f":
            return np.asarray(part.mean(axis=2, keepdims=True, dtype=np.float64))
        total = part.sum(axis=2, keepdims=True, dtype=np.uint32)
        return np.asarray((2 * total + count) // (2 * count))

    by_strips(mean, pixels, pixels)
