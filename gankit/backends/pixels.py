"""Integers to values and back: the edges of an engine."""

from __future__ import annotations

import torch
from torch import Tensor

from gankit.models.facts import Facts

FULL_SCALE = {torch.uint8: 255.0, torch.uint16: 65535.0}


def check(batch: Tensor, facts: Facts) -> None:
    """Reject what no engine takes.

    Raises:
        ValueError: not (N, C, H, W) with the model's channels, or not uint8, uint16 or float32.
    """
    if batch.ndim != 4 or batch.shape[1] != facts.channels:
        raise ValueError(f"{facts.name} takes (N, {facts.channels}, H, W), not {tuple(batch.shape)}")
    if batch.dtype not in FULL_SCALE and batch.dtype != torch.float32:
        raise ValueError(f"an engine takes uint8, uint16 or float32, not {batch.dtype}")


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
