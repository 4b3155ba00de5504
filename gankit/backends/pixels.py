"""Convert between the inputs of an engine and those of the generator: pixels to values and back, and latents.

Each conversion exists for tensors and, with the same bits, for NumPy arrays. Importing this module imports no torch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np

from gankit.models.facts import Facts

if TYPE_CHECKING:
    import torch
    from torch import Tensor

FULL_SCALE: Mapping[str, float] = MappingProxyType({"uint8": 255.0, "uint16": 65535.0})
"""The largest value of an integer type, by the name of the type."""


def dtype_name(values: np.ndarray | Tensor) -> str:
    """Return the name of a dtype, such as ``"uint8"``, for arrays and tensors alike."""
    return str(values.dtype).removeprefix("torch.")


def check(tensors: Sequence[np.ndarray] | Sequence[Tensor], facts: Facts) -> None:
    """Check the inputs of an engine, arrays or tensors.

    Raises:
        ValueError: If images are not (N, C, H, W) with the model's channels in uint8, uint16 or float32; if latents are
            not (N, latent) float32; or if classes are missing, unexpected or not (N,) int64.
    """
    if facts.task == "generate":
        _check_latents(tensors, facts)
        return
    if len(tensors) != 1:
        raise ValueError(f"{facts.name} takes one tensor of images, not {len(tensors)} tensors")
    batch = tensors[0]
    if batch.ndim != 4 or batch.shape[1] != facts.channels:
        raise ValueError(f"{facts.name} takes (N, {facts.channels}, H, W), not {tuple(batch.shape)}")
    if (dtype := dtype_name(batch)) not in (*FULL_SCALE, "float32"):
        raise ValueError(f"an engine takes uint8, uint16 or float32, not {dtype}")


def _check_latents(tensors: Sequence[np.ndarray] | Sequence[Tensor], facts: Facts) -> None:
    wanted = 2 if facts.classes else 1
    if len(tensors) != wanted:
        raise ValueError(f"{facts.name} takes latents{' and classes' if facts.classes else ''}: {wanted} tensors")
    latents = tensors[0]
    if latents.ndim != 2 or latents.shape[1] != facts.latent or dtype_name(latents) != "float32":
        raise ValueError(
            f"{facts.name} takes (N, {facts.latent}) float32, not {tuple(latents.shape)} {dtype_name(latents)}"
        )
    if facts.classes:
        classes = tensors[1]
        if tuple(classes.shape) != tuple(latents.shape[:1]) or dtype_name(classes) != "int64":
            given = f"{tuple(classes.shape)} {dtype_name(classes)}"
            raise ValueError(f"{facts.name} takes (N,) int64 classes, not {given}")


def enter(tensors: Sequence[Tensor], facts: Facts, dtype: torch.dtype | None = None) -> tuple[Tensor, ...]:
    """Convert the inputs of an engine to those of the generator: images in its value range, or latents and classes.

    Args:
        tensors: the arguments of :meth:`gankit.backends.base.Engine.run`. They are checked.
        facts: facts of the generator.
        dtype: dtype of values and latents; ``None`` for float32. Classes stay int64.

    Raises:
        ValueError: See :func:`check`.
    """
    check(tensors, facts)
    if facts.task == "generate":
        return (tensors[0] if dtype is None else tensors[0].to(dtype), *tensors[1:])
    return (to_values(tensors[0], facts, dtype),)


def leave(values: Tensor, tensors: Sequence[Tensor], facts: Facts) -> Tensor:
    """Convert the output of the generator to that of :meth:`gankit.backends.base.Engine.run`.

    Args:
        values: (N, C, H, W) floating point in the generator's value range.
        tensors: the inputs of the engine. Images determine the dtype of the result.
        facts: facts of the generator.
    """
    import torch

    return from_values(values, facts, torch.float32 if facts.task == "generate" else tensors[0].dtype)


def enter_pixels(tensors: Sequence[Tensor], facts: Facts) -> tuple[Tensor, ...]:
    """Convert images to the uint8 pixels that a file made with ``--io uint8`` takes.

    Args:
        tensors: the arguments of :meth:`gankit.backends.base.Engine.run`: one tensor, which is checked. Values
            between two levels are rounded half to even.
        facts: facts of the file, whose value range is that of pixels, 0 to 255.

    Returns:
        (N, H, W, C) uint8, contiguous.

    Raises:
        ValueError: See :func:`check`.
    """
    import torch

    (values,) = enter(tensors, facts)
    if tensors[0].dtype != torch.uint8:
        values = values.round().clamp(0, 255)
    return (values.permute(0, 2, 3, 1).to(torch.uint8).contiguous(),)


def leave_pixels(pixels: Tensor, tensors: Sequence[Tensor], facts: Facts) -> Tensor:
    """Convert the uint8 pixels of such a file to the output of :meth:`gankit.backends.base.Engine.run`.

    Args:
        pixels: (N, H, W, C) uint8.
        tensors: the inputs of the engine. Images determine the dtype of the result.
        facts: facts of the file, whose value range is that of pixels, 0 to 255.
    """
    return leave(pixels.permute(0, 3, 1, 2), tensors, facts)


def to_values(batch: Tensor, facts: Facts, dtype: torch.dtype | None = None) -> Tensor:
    """Convert integers of full scale, or float32 in [0, 1], to the generator's value range.

    Args:
        batch: (N, C, H, W) uint8, uint16 or float32.
        facts: facts of the generator, which contain its value range.
        dtype: dtype of the result; ``None`` for float32. The values are scaled in float32.

    Returns:
        A tensor of the same shape, channels_last if ``batch`` is.
    """
    values = batch.float()
    low, high = facts.value_range
    scale = (high - low) / FULL_SCALE.get(dtype_name(batch), 1.0)
    if scale != 1.0:
        values = values * scale
    if low:
        values = values + low
    return values if dtype is None else values.to(dtype)


def from_values(values: Tensor, facts: Facts, dtype: torch.dtype) -> Tensor:
    """Convert the generator's output to integers (clamped, rounded half to even) or to float32 (not clamped).

    Args:
        values: (N, C, H, W) floating point in the generator's value range. For integers they must be finite.
        facts: facts of the generator, which contain its value range.
        dtype: dtype of the result: uint8, uint16 or float32, which is nominally in [0, 1].
    """
    import torch

    low, high = facts.value_range
    full = FULL_SCALE.get(str(dtype).removeprefix("torch."), 1.0)
    result = values.float()
    if low:
        result = result - low
    if (factor := full / (high - low)) != 1.0:
        result = result * factor
    if dtype == torch.float32:
        return result
    # NaN would become 0, a black pixel that looks like a result. Engines that can overflow check for it first.
    result = result.clamp_(0, full).round_()
    if dtype == torch.uint16:
        return result.to(torch.int32).to(torch.uint16)
    return result.to(dtype)


def enter_arrays(arrays: Sequence[np.ndarray], facts: Facts) -> tuple[np.ndarray, ...]:
    """Do what :func:`enter` does for float32 and NumPy arrays, with the same bits.

    Returns:
        Contiguous arrays.
    """
    check(arrays, facts)
    if facts.task == "generate":
        return tuple(map(np.ascontiguousarray, arrays))
    (batch,) = arrays
    low, high = facts.value_range
    scale = (high - low) / FULL_SCALE.get(dtype_name(batch), 1.0)
    values = np.array(batch, np.float32, order="C")
    if scale != 1.0:
        values *= np.float32(scale)
    if low:
        values += np.float32(low)
    return (values,)


def leave_arrays(values: np.ndarray, arrays: Sequence[np.ndarray], facts: Facts) -> np.ndarray:
    """Do what :func:`leave` does for NumPy arrays, with the same bits.

    Args:
        values: (N, C, H, W) float32 in the generator's value range. They are overwritten.
        arrays: the inputs of the engine. Images determine the dtype of the result.
        facts: facts of the generator.

    Returns:
        Images are views of (N, H, W, C) in memory.
    """
    dtype = np.dtype(np.float32) if facts.task == "generate" else arrays[0].dtype
    low, high = facts.value_range
    full = FULL_SCALE.get(dtype.name, 1.0)
    result = values if values.flags.writeable else values.copy()
    if low:
        result -= np.float32(low)
    if (factor := full / (high - low)) != 1.0:
        result *= np.float32(factor)
    if dtype != np.float32:
        np.rint(np.clip(result, 0, np.float32(full), out=result), out=result)
    if facts.task == "generate":
        return result
    count, channels, height, width = result.shape
    pixels = np.empty((count, height, width, channels), dtype)
    with np.errstate(invalid="ignore"):  # NaN becomes a black pixel, as in a tensor
        for channel in range(channels):  # faster than one transposition whose last axis is short
            pixels[..., channel] = result[:, channel]
    return pixels.transpose(0, 3, 1, 2)
