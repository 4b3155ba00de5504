"""PSNR and SSIM of 8-bit images, with the conventions of the super-resolution tables.

The papers' tables take the luma of ITU-R BT.601 as MATLAB's ``rgb2ycbcr`` gives it (nominally 16 to 235, kept in
floating point), from RGB that was already rounded to 8 bits, and cut ``border`` pixels (the scale) from each side.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from gankit.images import luma as full_range

DecodedImage = NDArray[np.uint8]

PEAK = 255.0
_BT601 = np.array([0.299, 0.587, 0.114])  # weights of R, G and B, Recommendation ITU-R BT.601
_STUDIO_RANGE, _STUDIO_BLACK = 219.0 / 255.0, 16.0
_WINDOW_RADIUS = 5
SSIM_SIDE = 2 * _WINDOW_RADIUS + 1
_WINDOW_SIGMA = 1.5


def luma(image: DecodedImage) -> NDArray[np.float64]:
    """BT.601 luma in studio range, for figures: Y = 16 + (65.481 R + 128.553 G + 24.966 B) / 255.

    This is MATLAB's ``rgb2ycbcr``, which the super-resolution tables rest on; :func:`gray` is the full-range one.

    Args:
        image: (H, W, 3) uint8 RGB.

    Returns:
        (H, W) float64 in [16, 235], not rounded.
    """
    return np.asarray(image, dtype=np.float64) @ (_BT601 * _STUDIO_RANGE) + _STUDIO_BLACK


def gray(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """BT.601 luma in full range, for networks that take gray images: 0.299 R + 0.587 G + 0.114 B, rounded.

    Args:
        images: (..., W, 3) uint8 RGB.

    Returns:
        (..., W) uint8 from 0 to 255.
    """
    *outer, width, colours = images.shape
    return full_range(images.reshape(-1, width, colours)).reshape(*outer, width)


def psnr(result: DecodedImage, target: DecodedImage, border: int = 0) -> float:
    """Peak signal-to-noise ratio over all RGB values, 10·log10(255² / MSE).

    Args:
        result: (H, W, 3) uint8 RGB.
        target: the truth, same shape.
        border: pixels cut from each side.

    Returns:
        dB; infinite for equal images.

    Raises:
        ValueError: not uint8 RGB, different shapes, or nothing left inside the border.
    """
    result, target = _inside(result, target, border)
    return _psnr(result.astype(np.float64), target.astype(np.float64))


def l1(result: DecodedImage, target: DecodedImage, border: int = 0) -> float:
    """Mean absolute difference over all RGB values, of a range of 1.

    Args and errors as for :func:`psnr`.
    """
    result, target = _inside(result, target, border)
    return float(np.abs(result.astype(np.float64) - target).mean() / PEAK)


def psnr_y(result: DecodedImage, target: DecodedImage, border: int = 0) -> float:
    """Peak signal-to-noise ratio of the luma, peak 255, as the super-resolution tables give it.

    Args and errors as for :func:`psnr`.
    """
    result, target = _inside(result, target, border)
    return _psnr(luma(result), luma(target))


def ssim_y(result: DecodedImage, target: DecodedImage, border: int = 0) -> float:
    """Structural similarity of the luma (Wang et al. 2004, doi:10.1109/TIP.2003.819861).

    Gaussian window 11×11 with sigma 1.5, K1 = 0.01, K2 = 0.03, peak 255, population covariance, averaged over the
    places where the window fits whole.

    Args and errors as for :func:`psnr`; what is left inside the border must be at least 11×11.

    Returns:
        A value in [-1, 1]; 1 for equal images.
    """
    result, target = _inside(result, target, border)
    if min(result.shape[:2]) < SSIM_SIDE:
        raise ValueError(
            f"SSIM needs at least {SSIM_SIDE}×{SSIM_SIDE} pixels inside the border, got {result.shape[:2]}"
        )
    x, y = luma(result), luma(target)
    c1, c2 = (0.01 * PEAK) ** 2, (0.03 * PEAK) ** 2
    mean_x, mean_y = _blur(x), _blur(y)
    var_x = _blur(x * x) - mean_x * mean_x
    var_y = _blur(y * y) - mean_y * mean_y
    covariance = _blur(x * y) - mean_x * mean_y
    luminance = (2 * mean_x * mean_y + c1) / (mean_x * mean_x + mean_y * mean_y + c1)
    structure = (2 * covariance + c2) / (var_x + var_y + c2)
    return float((luminance * structure).mean())


def _inside(result: DecodedImage, target: DecodedImage, border: int) -> tuple[DecodedImage, DecodedImage]:
    """Both images without their border, after checking them."""
    for name, image in (("result", result), ("target", target)):
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            raise ValueError(f"{name} must be (H, W, 3) uint8, not {image.shape} {image.dtype}")
    if result.shape != target.shape:
        raise ValueError(f"shapes differ: result {result.shape}, target {target.shape}")
    if border < 0:
        raise ValueError(f"border must not be negative, got {border}")
    height, width = result.shape[:2]
    if 2 * border >= min(height, width):
        raise ValueError(f"a border of {border} leaves nothing of {height}×{width}")
    window = (slice(border, height - border), slice(border, width - border))
    return result[window], target[window]


def _psnr(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    mse = float(np.square(x - y).mean())
    return math.inf if mse == 0 else 10 * math.log10(PEAK * PEAK / mse)


def _blur(plane: NDArray[np.float64]) -> NDArray[np.float64]:
    """SSIM's Gaussian window over a plane, only where it fits whole."""
    offsets = np.arange(-_WINDOW_RADIUS, _WINDOW_RADIUS + 1)
    weights = np.exp(-(offsets**2) / (2 * _WINDOW_SIGMA**2))
    weights /= weights.sum()
    height, width = (side - 2 * _WINDOW_RADIUS for side in plane.shape)
    rows = np.zeros((height, plane.shape[1]))
    for index, weight in enumerate(weights):
        rows += weight * plane[index : index + height]
    blurred = np.zeros((height, width))
    for index, weight in enumerate(weights):
        blurred += weight * rows[:, index : index + width]
    return blurred
