"""Convert Pillow, NumPy and torch images to the types of the pipeline, and results back to the type of the input."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from gankit.images import DecodedImage, from_array, from_pil, to_array, to_pil


def as_image(image: Any) -> DecodedImage | None:
    """Convert a Pillow image or a NumPy array to a DecodedImage.

    Args:
        image: a Pillow image that :func:`gankit.images.from_pil` takes, a uint8 or uint16 array, or a tensor.

    Returns:
        The decoded image; ``None`` for a tensor, which :func:`as_tensor` takes.

    Raises:
        TypeError: the image has another type, or is an array that is neither uint8 nor uint16.
        ValueError: the array is empty, or its shape is neither (H, W) nor (H, W, 1 to 4).
    """
    if isinstance(image, Tensor):
        return None
    if isinstance(image, Image.Image):
        return from_pil(image)
    if not isinstance(image, np.ndarray):
        kind = f"{type(image).__module__}.{type(image).__qualname__}"
        raise TypeError(f"an image must be a Pillow image, a NumPy array or a torch tensor, not {kind}")
    if image.dtype not in (np.uint8, np.uint16):
        raise TypeError(f"a NumPy image must be uint8 or uint16, not {image.dtype}")
    if image.ndim not in (2, 3) or (image.ndim == 3 and not 1 <= image.shape[2] <= 4) or image.size == 0:
        raise ValueError(f"a NumPy image must have the shape (H, W) or (H, W, 1 to 4), not {image.shape}")
    return from_array(image)


def as_tensor(image: Tensor, channels: int) -> Tensor:
    """Check a tensor and move it to the CPU.

    Args:
        image: (N, C, H, W) or (C, H, W), floating point in [0, 1].
        channels: number of channels C that the generator takes.

    Returns:
        (N, C, H, W) float32 on the CPU.

    Raises:
        TypeError: the tensor is not floating point.
        ValueError: the shape or the number of channels is wrong, there are no pixels, or a value is not finite.
    """
    if not image.is_floating_point():
        raise TypeError(f"a torch image must be floating point in [0, 1], not {image.dtype}")
    if image.ndim not in (3, 4) or image.shape[-3] != channels or 0 in image.shape[-2:]:
        shape = tuple(image.shape)
        raise ValueError(f"a torch image must have the shape (N, {channels}, H, W) or ({channels}, H, W), not {shape}")
    batch = image.detach().to("cpu", torch.float32)
    if not bool(batch.isfinite().all()):
        raise ValueError("the image contains values that are not finite")
    return batch if image.ndim == 4 else batch[None]


def back(result: DecodedImage | Tensor, like: Any, scale: int = 1) -> Any:
    """Convert a result to the type of the image that the user gave.

    Args:
        result: a DecodedImage for Pillow and NumPy, a tensor for torch.
        like: the image that the user gave.
        scale: scale of the generator, which determines the size of the result for an empty batch.
    """
    if isinstance(result, DecodedImage):
        return to_pil(result) if isinstance(like, Image.Image) else to_array(result, like)
    if result.shape[0] == 0:
        result = result.new_empty((*result.shape[:2], result.shape[2] * scale, result.shape[3] * scale))
    result = result.clamp(0, 1).to(like.device, like.dtype)
    return result if like.ndim == 4 else result[0]
