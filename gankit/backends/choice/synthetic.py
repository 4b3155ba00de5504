"""Test images that are harder for a narrow precision than photographs: flat, nearly flat, and with one edge."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

_SIDES = (48, 64)  # small, because every candidate runs all of them
_LEVEL = 1 / 255
CONTRASTS = (2.0, 16.0)
"""Contrasts, in 8-bit levels, below which images may run in fp32 while all others run in a narrow precision."""


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


def faint_images(image: Tensor) -> dict[str, Tensor]:
    """Make images of little contrast: for each of :data:`CONTRASTS`, a real image at that contrast, dark and mid-gray.

    Args:
        image: a real image, (1, C, H, W) float32 in [0, 1].

    Returns:
        The name of each image with the image, in the layout of the real one.
    """
    found = {}
    varied = image - image.mean((2, 3), keepdim=True)
    for levels in CONTRASTS:
        # a little more, because rounding to levels takes some away
        faint = varied * (1.1 * levels * _LEVEL / float(varied.std((2, 3), correction=0).max()))
        for place, base in (("dark", float(-faint.min())), ("gray", 0.5)):
            shown = (faint + base).clamp(0, 1).mul(255).round().div(255)
            found[f"a {place} image of contrast {levels:.0f}"] = shown.contiguous(memory_format=torch.channels_last)
    return found


def contrast(image: Tensor) -> float:
    """Return the contrast of an image: the largest standard deviation of its channels, in 8-bit levels.

    Args:
        image: (1, C, H, W) float32 in [0, 1].
    """
    return 255 * float(image.double().std((2, 3), correction=0).max())
