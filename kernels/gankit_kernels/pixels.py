"""Integer pixels (H, W, C) to the floating-point values of a generator and back, in one pass each.

Bit for bit what torch's separate operations give: the scaling is a multiplication and then an addition in float32,
not fused into one, and integers are rounded half to even.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from gankit_kernels.library import exporting, has_triton, register
from gankit_kernels.tensors import ON_CUDA

FULL_SCALE = {torch.uint8: 255.0, torch.uint16: 65535.0}
_LAYOUTS = (torch.contiguous_format, torch.channels_last)


def from_uint8(
    pixels: Tensor,
    *,
    low: float = 0.0,
    high: float = 1.0,
    dtype: torch.dtype = torch.float32,
    memory_format: torch.memory_format = torch.contiguous_format,
) -> Tensor:
    """Pixels to values: 0 becomes ``low``, full scale ``high``.

    Args:
        pixels: (N, H, W, C) uint8 or uint16.
        low: value of 0.
        high: value of 255 or 65535.
        dtype: float32, float16 or bfloat16; the scaling is done in float32.
        memory_format: ``torch.contiguous_format`` for planes, or ``torch.channels_last``.

    Returns:
        (N, C, H, W).

    Raises:
        ValueError: another rank or layout, or numbers that are not finite and in order.
        TypeError: another dtype.
    """
    if pixels.ndim != 4:
        raise ValueError(f"pixels must be (N, H, W, C), not of shape {tuple(pixels.shape)}")
    if pixels.dtype not in FULL_SCALE:
        raise TypeError(f"pixels must be uint8 or uint16, not {pixels.dtype}")
    _check(low, high, dtype)
    if memory_format not in _LAYOUTS:
        raise ValueError(f"memory_format must be contiguous_format or channels_last, not {memory_format}")
    last = memory_format == torch.channels_last
    if exporting():
        return _values(pixels, low, high, dtype)
    result: Tensor = _FROM(pixels, low, high, dtype, last)
    return result


def to_uint8(values: Tensor, *, low: float = 0.0, high: float = 1.0, dtype: torch.dtype = torch.uint8) -> Tensor:
    """Values to pixels: clamped to [``low``, ``high``], scaled to the full range and rounded half to even.

    Args:
        values: (N, C, H, W) float32, float16 or bfloat16, planes or channels_last. What is not finite gives pixels
            of no use.
        low: value that becomes 0.
        high: value that becomes 255 or 65535.
        dtype: uint8 or uint16.

    Returns:
        (N, H, W, C), dense.

    Raises:
        ValueError: another rank, or numbers that are not finite and in order.
        TypeError: another dtype.
    """
    if values.ndim != 4:
        raise ValueError(f"values must be (N, C, H, W), not of shape {tuple(values.shape)}")
    if dtype not in FULL_SCALE:
        raise TypeError(f"dtype must be uint8 or uint16, not {dtype}")
    _check(low, high, values.dtype)
    if exporting():
        return _pixels(values, low, high, dtype)
    result: Tensor = _TO(values, low, high, dtype)
    return result


def _check(low: float, high: float, dtype: torch.dtype) -> None:
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise ValueError(f"low must be less than high, both finite; they are {low} and {high}")
    if dtype not in ON_CUDA:
        raise TypeError(f"values must be float32, float16 or bfloat16, not {dtype}")


def _values(pixels: Tensor, low: float, high: float, dtype: torch.dtype) -> Tensor:
    scale = (high - low) / FULL_SCALE[pixels.dtype]
    return (pixels.float() * scale + low).to(dtype).permute(0, 3, 1, 2)


def _pixels(values: Tensor, low: float, high: float, dtype: torch.dtype) -> Tensor:
    full = FULL_SCALE[dtype]
    scaled = ((values.float() - low) * (full / (high - low))).clamp(0, full).round().permute(0, 2, 3, 1)
    return scaled.to(torch.int32).to(dtype) if dtype == torch.uint16 else scaled.to(dtype)


def empty_values(pixels: Tensor, low: float, high: float, dtype: torch.dtype, last: bool) -> Tensor:
    """An empty tensor for values."""
    samples, height, width, channels = pixels.shape
    layout = torch.channels_last if last else torch.contiguous_format
    return torch.empty((samples, channels, height, width), dtype=dtype, device=pixels.device, memory_format=layout)


def empty_pixels(values: Tensor, low: float, high: float, dtype: torch.dtype) -> Tensor:
    """An empty tensor for pixels."""
    samples, channels, height, width = values.shape
    return torch.empty((samples, height, width, channels), dtype=dtype, device=values.device)


def _from_reference(pixels: Tensor, *rest: Any) -> Tensor:
    return empty_values(pixels, *rest).copy_(_values(pixels, *rest[:3]))


def _to_reference(values: Tensor, *rest: Any) -> Tensor:
    return empty_pixels(values, *rest).copy_(_pixels(values, *rest))


def _from_on_cuda(pixels: Tensor, *rest: Any) -> Tensor:
    if not has_triton():
        return _from_reference(pixels, *rest)
    from gankit_kernels.on_cuda.pixels import launch_from

    return launch_from(pixels, *rest)


def _to_on_cuda(values: Tensor, *rest: Any) -> Tensor:
    if not has_triton():
        return _to_reference(values, *rest)
    from gankit_kernels.on_cuda.pixels import launch_to

    return launch_to(values, *rest)


_FROM = register(
    "from_uint8(Tensor pixels, float low, float high, ScalarType dtype, bool last) -> Tensor",
    reference=_from_reference,
    on_cuda=_from_on_cuda,
    shapes=empty_values,
)
_TO = register(
    "to_uint8(Tensor values, float low, float high, ScalarType dtype) -> Tensor",
    reference=_to_reference,
    on_cuda=_to_on_cuda,
    shapes=empty_pixels,
)
