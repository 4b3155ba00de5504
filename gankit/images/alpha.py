"""Transparency: colours under transparent pixels, flattening, and multiplied alpha."""

from __future__ import annotations

import numpy as np

from gankit.images.strips import by_strips


def bleed(pixels: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Spread the visible colours under the fully transparent pixels.

    What lies under alpha 0 is arbitrary, often black; a generator or a resampler mixes it into the border, which
    then shows as a dark fringe. Here every such pixel takes the alpha-weighted mean colour of the smallest block
    of 2, 4, 8, … pixels around it that holds anything visible (the pull and push of Gortler et al. 1996).
    Visible pixels stay exactly as they are.

    Args:
        pixels: (H, W, 3) uint8, uint16, or float32 from 0 to 1.
        alpha: (H, W), the same dtype.

    Returns:
        (H, W, 3), the same dtype; ``pixels`` itself where nothing, or everything, is transparent.
    """
    hidden = alpha == 0
    if not hidden.any() or hidden.all():
        return pixels
    is_float = alpha.dtype.kind == "f"
    weight = alpha.astype(np.float32) / (1 if is_float else np.iinfo(alpha.dtype).max)
    colour = pixels.astype(np.float32) * weight[..., None]
    filled = _pull_push(colour, weight)
    out = pixels.copy()
    out[hidden] = filled[hidden] if is_float else np.rint(filled[hidden]).astype(pixels.dtype)
    return out


def _pull_push(colour: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Mean colour of each pixel, or of the smallest block around it with any weight.

    Args:
        colour: (H, W, 3) float32, multiplied by weight.
        weight: (H, W) float32, not all zero.

    Returns:
        (H, W, 3) float32.
    """
    empty = weight <= 0
    mean = colour / np.where(empty, 1, weight)[..., None]
    if not empty.any():
        return mean
    height, width = weight.shape
    pad = ((0, height % 2), (0, width % 2))
    colour, weight = np.pad(colour, (*pad, (0, 0))), np.pad(weight, pad)
    coarse = _pull_push(
        colour[::2, ::2] + colour[1::2, ::2] + colour[::2, 1::2] + colour[1::2, 1::2],
        weight[::2, ::2] + weight[1::2, ::2] + weight[::2, 1::2] + weight[1::2, 1::2],
    )
    rows, columns = np.nonzero(empty)
    mean[rows, columns] = coarse[rows // 2, columns // 2]
    return mean


def flatten(pixels: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Composite the image on white, for formats that hold no transparency.

    Args:
        pixels: (H, W, 3) uint8 or uint16.
        alpha: (H, W), the same dtype.

    Returns:
        (H, W, 3), the same dtype, rounded to nearest.
    """
    top = int(np.iinfo(alpha.dtype).max)

    def on_white(colour: np.ndarray, alpha: np.ndarray) -> np.ndarray:
        part = alpha[..., None].astype(np.uint32)
        # At most 65535 * 65535 + 32767, which uint32 still holds.
        mixed: np.ndarray = (colour * part + (top - part) * top + top // 2) // top
        return mixed

    return by_strips(on_white, np.empty_like(pixels), pixels, alpha)


def unmultiply(colour: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Straight colours of samples that are stored multiplied by their alpha ("associated").

    Args:
        colour: (H, W, C) uint8 or uint16, each at most alpha in a valid file.
        alpha: (H, W), the same dtype.

    Returns:
        (H, W, C), the same dtype; 0 where alpha is 0.
    """
    top = int(np.iinfo(alpha.dtype).max)
    part = alpha[..., None].astype(np.uint32)
    straight = (colour * np.uint32(top) + part // 2) // np.maximum(part, 1)
    return np.where(part == 0, 0, np.minimum(straight, top)).astype(colour.dtype)
