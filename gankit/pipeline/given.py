"""The images that users give to a pipeline from Python, and results of the same kind.

A NumPy array gives a NumPy array, a tensor a tensor, and a Pillow image a Pillow image. The path of a file gives a
Pillow image, and a list gives a list.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from gankit.errors import UsageError
from gankit.images import DecodedImage, decode, from_array, from_pil, to_array, to_pil
from gankit.memory import available_memory
from gankit.models.facts import Facts
from gankit.pipeline.label_maps import decode_indices, from_indices, pillow_indices

_TAKEN = "give a NumPy array, a torch tensor, a Pillow image, the path of a file, or a list of these"
_ROUNDING = 1e-3  # fp16 near 1 has steps of 5e-4
_BYTE_LIKE = 2.0  # no image in [0, 1] reaches this by overshoot of a resampling filter


@dataclass(frozen=True)
class Given:
    """One image, or one batch of images, that a user gave.

    Attributes:
        value: what the user gave.
        images: the images in it. Empty for a tensor of floating point, which :attr:`batch` holds.
        batch: (N, C, H, W) float32 from 0 to 1 on the CPU; ``None`` for anything else.
        array: an array, or another tensor as an array with the channels last; ``None`` for anything else.
    """

    value: Any
    images: tuple[DecodedImage, ...] = ()
    batch: Tensor | None = None
    array: np.ndarray | None = None

    def back(self, results: Sequence[DecodedImage], facts: Facts) -> Any:
        """Convert the results of :attr:`images` to the kind of the value.

        Args:
            results: the results, in order.
            facts: facts of the generator, which tell the shape of an empty batch.
        """
        if self.array is None:
            return to_pil(results[0])
        made = _array_back(results, self.array, facts)
        if isinstance(self.value, Tensor):
            return torch.from_numpy(np.ascontiguousarray(np.moveaxis(made, -1, -3))).to(self.value.device)
        return made

    def batch_back(self, result: Tensor, facts: Facts) -> Tensor:
        """Convert the result of :attr:`batch` to the shape, dtype and device of the value, from 0 to 1."""
        if result.shape[0] == 0:
            result = result.new_empty(
                (0, facts.out_channels or facts.channels, *(side * facts.scale for side in result.shape[2:]))
            )
        result = result.clamp(0, 1).to(self.value.device, self.value.dtype)
        return result if self.value.ndim == 4 else result[0]


def given(value: Any, facts: Facts) -> Given:
    """Convert what a user gave to images.

    Args:
        value: a NumPy array of shape (H, W), (H, W, 1 to 4) or (N, H, W, 1 to 4), in uint8, uint16 or floating point
            from 0 to 1; a torch tensor of shape (C, H, W) or (N, C, H, W), in uint8 or floating point from 0 to 1; a
            Pillow image; or the path of an image file. A model whose input is a mask or a label map takes arrays and
            tensors of any whole numbers or of booleans.
        facts: facts of the generator.

    Raises:
        UsageError: If the value has another type, dtype, shape or range.
        ImageError: If the file cannot be read.
    """
    indexed = facts.input_kind != "image"
    if isinstance(value, Tensor):
        return _given_tensor(value, facts)
    if isinstance(value, Image.Image):
        return Given(value, (_from_pillow(value, facts),))
    if isinstance(value, str | os.PathLike):
        path, free = Path(value), available_memory()
        return Given(value, (decode_indices(path, facts, max_bytes=free) if indexed else decode(path, max_bytes=free),))
    if isinstance(value, np.ndarray):
        return Given(value, _from_array(value, facts), array=value)
    kind = f"{type(value).__module__}.{type(value).__qualname__}"
    raise UsageError(f"an image cannot be of type {kind}; {_TAKEN}")


def _given_tensor(value: Tensor, facts: Facts) -> Given:
    if value.is_floating_point():
        return Given(value, batch=_float_batch(value, facts.channels))
    if value.dtype != torch.uint8 and (facts.input_kind == "image" or value.is_complex()):
        raise UsageError(f"a torch image must be uint8, or floating point from 0 to 1, not {value.dtype}")
    if value.ndim not in (3, 4) or not 1 <= value.shape[-3] <= 4 or 0 in value.shape[-2:]:
        raise UsageError(
            f"a torch image must have the shape (N, C, H, W) or (C, H, W) with 1 to 4 channels, "
            f"not {tuple(value.shape)}"
        )
    pixels = value.detach().cpu().movedim(-3, -1).contiguous().numpy()
    return Given(value, _from_array(pixels, facts), array=pixels)


def _float_batch(value: Tensor, channels: int) -> Tensor:
    """Check a tensor of floating point and return it as (N, C, H, W) float32 on the CPU."""
    if value.ndim not in (3, 4) or value.shape[-3] != channels or 0 in value.shape[-2:]:
        shape = tuple(value.shape)
        raise UsageError(f"a torch image must have the shape (N, {channels}, H, W) or ({channels}, H, W), not {shape}")
    batch = value.detach().to("cpu", torch.float32)
    batch = batch if value.ndim == 4 else batch[None]
    if batch.numel():
        _check_range(float(batch.min()), float(batch.max()))
    return batch.clamp(0, 1)


def _from_pillow(value: Image.Image, facts: Facts) -> DecodedImage:
    try:
        if facts.input_kind == "image":
            return from_pil(value)
        return from_indices(pillow_indices(value), facts, "the image")
    except (OSError, ValueError, SyntaxError) as error:  # it is closed, or its file ends early
        if isinstance(error, UsageError):
            raise
        raise UsageError(f"the Pillow image cannot be read: {error}") from error


def _from_array(value: np.ndarray, facts: Facts) -> tuple[DecodedImage, ...]:
    """Return the images of (H, W), (H, W, C) or (N, H, W, C)."""
    indexed = facts.input_kind != "image"
    kind, size = value.dtype.kind, value.dtype.itemsize
    if not (kind == "f" or (kind == "u" and size <= 2) or (indexed and kind in "biu")):
        raise UsageError(f"a NumPy image must be uint8, uint16, or floating point from 0 to 1, not {value.dtype}")
    if value.ndim not in (2, 3, 4) or (value.ndim > 2 and not 1 <= value.shape[-1] <= 4) or 0 in value.shape[-3:]:
        raise UsageError(
            f"a NumPy image must have the shape (H, W), (H, W, 1 to 4) or (N, H, W, 1 to 4), not {value.shape}"
        )
    each = value if value.ndim == 4 else value[None]
    if indexed:
        if value.ndim > 2 and value.shape[-1] in (2, 4):
            raise UsageError(f"a mask or label map has 1 channel, or 3 equal ones, not {value.shape[-1]}")
        return tuple(from_indices(image, facts, "the image") for image in each)
    if kind == "f":
        if value.size:
            _check_range(float(value.min()), float(value.max()))
        each = np.clip(each, 0, 1).astype(np.float32)
    return tuple(from_array(image.astype(image.dtype.newbyteorder("="), copy=False)) for image in each)


def _check_range(low: float, high: float) -> None:
    """Refuse floating-point values that are not from 0 to 1.

    Raises:
        UsageError: If the values are not finite or out of range; it names the likely range.
    """
    if not np.isfinite(low) or not np.isfinite(high):
        raise UsageError("the image contains values that are not finite")
    if low >= -_ROUNDING and high <= 1 + _ROUNDING:
        return
    found = f"floating-point images range from 0 to 1, but this one ranges from {low:.4g} to {high:.4g}"
    if high >= _BYTE_LIKE:
        top = 65535 if high > 256 else 255
        raise UsageError(f"{found}, which looks like 0 to {top}; divide it by {top}")
    if low >= -1 - _ROUNDING and high <= 1 + _ROUNDING and low < -0.5:
        raise UsageError(f"{found}, which looks like -1 to 1; use x / 2 + 0.5")
    raise UsageError(f"{found}; clip it")


def _array_back(results: Sequence[DecodedImage], like: np.ndarray, facts: Facts) -> np.ndarray:
    """Return results as an array with as many axes as ``like`` and its kind of numbers."""
    if like.ndim == 4:
        if not results:
            height, width, channels = like.shape[1:]
            made = (facts.out_channels or facts.channels) if facts.task == "translate" else channels
            return np.empty((0, height * facts.scale, width * facts.scale, made), _result_dtype(like.dtype))
        return np.stack([_one_back(result, like) for result in results])
    return _one_back(results[0], like)


def _one_back(result: DecodedImage, like: np.ndarray) -> np.ndarray:
    samples = to_array(result, like if like.ndim < 4 else like[0])
    if samples.dtype.kind == "f":
        samples = samples.clip(0, 1)
    # Indices of any integer type give an 8-bit image; other types stay as they are.
    return samples.astype(like.dtype, copy=False) if samples.dtype.kind == "f" else np.ascontiguousarray(samples)


def _result_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    return dtype if dtype.kind == "f" or dtype in (np.uint8, np.uint16) else np.dtype(np.uint8)
