"""Convert between the tensors of an engine and those of the generator: pixels to values and back, and latents."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from gankit.models.facts import Facts

FULL_SCALE = {torch.uint8: 255.0, torch.uint16: 65535.0}


def check(tensors: Sequence[Tensor], facts: Facts) -> None:
    """Check the inputs of an engine.

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
    if batch.dtype not in FULL_SCALE and batch.dtype != torch.float32:
        raise ValueError(f"an engine takes uint8, uint16 or float32, not {batch.dtype}")


def _check_latents(tensors: Sequence[Tensor], facts: Facts) -> None:
    wanted = 2 if facts.classes else 1
    if len(tensors) != wanted:
        raise ValueError(f"{facts.name} takes latents{' and classes' if facts.classes else ''}: {wanted} tensors")
    latents = tensors[0]
    if latents.ndim != 2 or latents.shape[1] != facts.latent or latents.dtype != torch.float32:
        raise ValueError(f"{facts.name} takes (N, {facts.latent}) float32, not {tuple(latents.shape)} {latents.dtype}")
    if facts.classes and (tensors[1].shape != latents.shape[:1] or tensors[1].dtype != torch.int64):
        raise ValueError(f"{facts.name} takes (N,) int64 classes, not {tuple(tensors[1].shape)} {tensors[1].dtype}")


def enter(tensors: Sequence[Tensor], facts: Facts, dtype: torch.dtype = torch.float32) -> tuple[Tensor, ...]:
    """Convert the inputs of an engine to those of the generator: images in its value range, or latents and classes.

    Args:
        tensors: the arguments of :meth:`gankit.backends.base.Engine.run`. They are checked.
        facts: facts of the generator.
        dtype: dtype of values and latents. Classes stay int64.

    Raises:
        ValueError: See :func:`check`.
    """
    check(tensors, facts)
    if facts.task == "generate":
        return (tensors[0].to(dtype), *tensors[1:])
    return (to_values(tensors[0], facts, dtype),)


def leave(values: Tensor, tensors: Sequence[Tensor], facts: Facts) -> Tensor:
    """Convert the output of the generator to that of :meth:`gankit.backends.base.Engine.run`.

    Args:
        values: (N, C, H, W) floating point in the generator's value range.
        tensors: the inputs of the engine. Images determine the dtype of the result.
        facts: facts of the generator.
    """
    return from_values(values, facts, torch.float32 if facts.task == "generate" else tensors[0].dtype)


def to_values(batch: Tensor, facts: Facts, dtype: torch.dtype = torch.float32) -> Tensor:
    """Convert integers of full scale, or float32 in [0, 1], to the generator's value range.

    Args:
        batch: (N, C, H, W) uint8, uint16 or float32.
        facts: facts of the generator, which contain its value range.
        dtype: dtype of the result. The values are scaled in float32.

    Returns:
        A tensor of the same shape, channels_last if ``batch`` is.
    """
    values = batch.float()
    low, high = facts.value_range
    scale = (high - low) / FULL_SCALE.get(batch.dtype, 1.0)
    if scale != 1.0:
        values = values * scale
    if low:
        values = values + low
    return values.to(dtype)


def from_values(values: Tensor, facts: Facts, dtype: torch.dtype) -> Tensor:
    """Convert the generator's output to integers (clamped, rounded half to even) or to float32 (not clamped).

    Args:
        values: (N, C, H, W) floating point in the generator's value range. For integers they must be finite.
        facts: facts of the generator, which contain its value range.
        dtype: dtype of the result: uint8, uint16 or float32, which is nominally in [0, 1].
    """
    low, high = facts.value_range
    full = FULL_SCALE.get(dtype, 1.0)
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
