"""The edges of an engine: pixels to values and back, and what a generator of latents takes and gives."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from gankit.models.facts import Facts

FULL_SCALE = {torch.uint8: 255.0, torch.uint16: 65535.0}


def check(tensors: Sequence[Tensor], facts: Facts) -> None:
    """Reject what no engine takes.

    Raises:
        ValueError: images that are not (N, C, H, W) with the model's channels in uint8, uint16 or float32; latents
            that are not (N, latent) float32; classes that are missing, not wanted, or not (N,) int64.
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
    """What the generator itself takes: images in its value range, or latents and classes.

    Args:
        tensors: what :meth:`gankit.backends.base.Engine.run` takes; they are checked.
        facts: of the generator.
        dtype: of the values and latents; classes stay int64.

    Raises:
        ValueError: see :func:`check`.
    """
    check(tensors, facts)
    if facts.task == "generate":
        return (tensors[0].to(dtype), *tensors[1:])
    return (to_values(tensors[0], facts, dtype),)


def leave(values: Tensor, tensors: Sequence[Tensor], facts: Facts) -> Tensor:
    """The generator's output as :meth:`gankit.backends.base.Engine.run` returns it.

    Args:
        values: (N, C, H, W) floating point in the generator's value range.
        tensors: what went in; images decide the dtype.
        facts: of the generator.
    """
    return from_values(values, facts, torch.float32 if facts.task == "generate" else tensors[0].dtype)


def to_values(batch: Tensor, facts: Facts, dtype: torch.dtype = torch.float32) -> Tensor:
    """Integers of full scale, or float32 in [0, 1], to the generator's value range.

    Args:
        batch: (N, C, H, W) uint8, uint16 or float32.
        facts: the value range.
        dtype: of the result; the scaling is done in float32.

    Returns:
        A tensor of the same shape, channels_last where ``batch`` is.
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
    """The generator's output to integers (clamped, rounded half to even), or to float32 in [0, 1], not clamped.

    Args:
        values: (N, C, H, W) floating point.
        facts: the value range.
        dtype: uint8, uint16 or float32. Integers of values that are not finite are of no use.
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
    # NaN would become 0, a black pixel that looks like a result: an engine that can overflow looks before.
    result = result.clamp_(0, full).round_()
    if dtype == torch.uint16:
        return result.to(torch.int32).to(torch.uint16)
    return result.to(dtype)
