"""Conversion of integer pixels (H, W, C) to a generator's floating-point values and back, in one pass each.

The results are those of torch's separate operations, bit for bit: a multiplication and then an addition in float32,
not fused into one, and integers rounded half to even.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from gankit_kernels.library import exporting, has_triton, register
from gankit_kernels.specs import FULL_SCALE, PixelsSpec, ValuesSpec
from gankit_kernels.tensors import ON_CUDA

_LAYOUTS = (torch.contiguous_format, torch.channels_last)


def from_uint8(
    pixels: Tensor,
    *,
    low: float = 0.0,
    high: float = 1.0,
    dtype: torch.dtype = torch.float32,
    memory_format: torch.memory_format = torch.contiguous_format,
) -> Tensor:
    """Convert pixels to values: 0 becomes ``low`` and full scale becomes ``high``.

    Args:
        pixels: (N, H, W, C) uint8 or uint16.
        low: Value of pixel 0.
        high: Value of pixel 255 or 65535.
        dtype: Dtype of the values: float32, float16 or bfloat16. The scaling is done in float32.
        memory_format: Layout of the values: ``torch.contiguous_format`` or ``torch.channels_last``.

    Returns:
        (N, C, H, W).

    Raises:
        ValueError: The rank or the layout is another, or ``low`` and ``high`` are not finite and in order.
        TypeError: A dtype is not supported.
    """
    if pixels.ndim != 4:
        raise ValueError(f"pixels must be (N, H, W, C), not of shape {tuple(pixels.shape)}")
    if pixels.dtype not in FULL_SCALE:
        raise TypeError(f"pixels must be uint8 or uint16, not {pixels.dtype}")
    _check(low, high, dtype)
    if memory_format not in _LAYOUTS:
        raise ValueError(f"memory_format must be contiguous_format or channels_last, not {memory_format}")
    spec = ValuesSpec(low, high, dtype, memory_format == torch.channels_last)
    if exporting():
        return values_composite(pixels, spec)
    result: Tensor = _FROM(pixels, **vars(spec))
    return result


def to_uint8(values: Tensor, *, low: float = 0.0, high: float = 1.0, dtype: torch.dtype = torch.uint8) -> Tensor:
    """Convert values to pixels: clamp to [``low``, ``high``], scale to the full range and round half to even.

    Args:
        values: (N, C, H, W) float32, float16 or bfloat16, as planes or channels_last. The pixel of a NaN is undefined.
        low: Value that becomes pixel 0.
        high: Value that becomes pixel 255 or 65535.
        dtype: Dtype of the pixels: uint8 or uint16.

    Returns:
        (N, H, W, C), dense.

    Raises:
        ValueError: The rank is another, or ``low`` and ``high`` are not finite and in order.
        TypeError: A dtype is not supported.
    """
    if values.ndim != 4:
        raise ValueError(f"values must be (N, C, H, W), not of shape {tuple(values.shape)}")
    if dtype not in FULL_SCALE:
        raise TypeError(f"dtype must be uint8 or uint16, not {dtype}")
    _check(low, high, values.dtype)
    spec = PixelsSpec(low, high, dtype)
    if exporting():
        return pixels_composite(values, spec)
    result: Tensor = _TO(values, **vars(spec))
    return result


def _check(low: float, high: float, dtype: torch.dtype) -> None:
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise ValueError(f"low must be less than high, both finite; they are {low} and {high}")
    if dtype not in ON_CUDA:
        raise TypeError(f"values must be float32, float16 or bfloat16, not {dtype}")


def values_composite(pixels: Tensor, spec: ValuesSpec) -> Tensor:
    """:func:`from_uint8` in torch's own operations, in any layout: for exports, and the reference for the kernels."""
    scale = (spec.high - spec.low) / FULL_SCALE[pixels.dtype]
    return (pixels.float() * scale + spec.low).to(spec.dtype).permute(0, 3, 1, 2)


def pixels_composite(values: Tensor, spec: PixelsSpec) -> Tensor:
    """:func:`to_uint8` in torch's own operations, in any layout: for exports, and the reference for the kernels."""
    full = FULL_SCALE[spec.dtype]
    scaled = ((values.float() - spec.low) * (full / (spec.high - spec.low))).clamp(0, full).round().permute(0, 2, 3, 1)
    return scaled.to(torch.int32).to(spec.dtype) if spec.dtype == torch.uint16 else scaled.to(spec.dtype)


def _from_reference(pixels: Tensor, spec: ValuesSpec) -> Tensor:
    return spec.empty(pixels).copy_(values_composite(pixels, spec))


def _to_reference(values: Tensor, spec: PixelsSpec) -> Tensor:
    return spec.empty(values).copy_(pixels_composite(values, spec))


def _from_on_cuda(pixels: Tensor, spec: ValuesSpec) -> Tensor:
    if not has_triton():
        return _from_reference(pixels, spec)
    from gankit_kernels.on_cuda.pixels import launch_from

    return launch_from(pixels, spec)


def _to_on_cuda(values: Tensor, spec: PixelsSpec) -> Tensor:
    if not has_triton():
        return _to_reference(values, spec)
    from gankit_kernels.on_cuda.pixels import launch_to

    return launch_to(values, spec)


_FROM = register(
    "from_uint8(Tensor pixels, *, float low, float high, ScalarType dtype, bool last) -> Tensor",
    ValuesSpec,
    reference=_from_reference,
    on_cuda=_from_on_cuda,
    empty=lambda pixels, spec: spec.empty(pixels),
)
_TO = register(
    "to_uint8(Tensor values, *, float low, float high, ScalarType dtype) -> Tensor",
    PixelsSpec,
    reference=_to_reference,
    on_cuda=_to_on_cuda,
    empty=lambda values, spec: spec.empty(values),
)
