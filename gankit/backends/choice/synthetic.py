"""Test images that are harder for a narrow precision than photographs: flat, nearly flat, and with one edge."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

_SIDES = (48, 64)  # small, because every candidate runs all of them
_LEVEL = 1 / 255


def synthetic_images(channels: int = 3, multiple: int = 1, minimum: int = 1) -> dict[str, Tensor]:
    """Make the synthetic images of the parity check.

    InstanceNorm divides by the standard deviation of its input. In nearly flat images, such as an empty field of view,
    this is hardly more than the rounding error of a narrow precision, which the division then amplifies.

    Args:
        channels: number of channels, which are all equal.
        multiple: the sides are rounded up to multiples of it.
        minimum: smallest side in pixels.

    Returns:
        The name of each image, for messages, with the image: (1, C, H, W) float32 in [0, 1], channels_last. The sides
        are 48 and 64 pixels unless ``multiple`` and ``minimum`` require more.
    """
    height, width = (-(-max(side, minimum) // multiple) * multiple for side in _SIDES)
    noise = np.random.default_rng(0).integers(0, 2, (height, width)).astype(np.float32) * np.float32(_LEVEL)
    dot, step = np.zeros((height, width), np.float32), np.zeros((height, width), np.float32)
    dot[height // 2, width // 2] = 1
    step[:, width // 2 :] = 1
    planes = {
        "a black image": np.zeros((height, width), np.float32),
        "a white image": np.ones((height, width), np.float32),
        "noise of levels 0 and 1": noise,
        "one bright dot": dot,
        "a step": step,
    }
    return {
        name: torch.from_numpy(plane).expand(1, channels, height, width).contiguous(memory_format=torch.channels_last)
        for name, plane in planes.items()
    }
