"""Layouts, dtypes and shapes: what the operations require of their tensors."""

from __future__ import annotations

import math
from functools import cache

import torch
from torch import Tensor

FLOATS = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
ON_CUDA = (torch.float32, torch.float16, torch.bfloat16)  # the dtypes that the kernels support
_VECTOR_BYTES = 16  # the widest memory access of a GPU's thread
_MOST = 2**31 - 2**20  # most planes in a grid, and most pixels in a plane, with room for a last block


def channels_last(x: Tensor) -> bool:
    """Whether the values of a pixel of (N, C, H, W) are adjacent. A tensor in both layouts counts as planes."""
    return not x.is_contiguous() and x.shape[1] > 1 and x.stride(1) == 1


def memory_format(x: Tensor) -> torch.memory_format:
    """The layout of a result whose source is ``x``."""
    return torch.channels_last if channels_last(x) else torch.contiguous_format


def dense(x: Tensor) -> Tensor:
    """Return ``x`` if each of its images is dense, as planes or as channels_last; otherwise a dense copy.

    The images themselves may be apart: every second image of a batch needs no copy, nor do the first channels of
    planes.
    """
    if x.is_contiguous() or x.is_contiguous(memory_format=torch.channels_last):
        return x
    _, channels, height, width = x.shape
    if channels_last(x):
        inner: tuple[int, ...] = (1, width * channels, channels)
    else:
        inner = (height * width, width, 1)
    sides = zip(x.shape[1:], x.stride()[1:], inner, strict=True)
    if all(size == 1 or stride == wanted for size, stride, wanted in sides):
        return x
    return x.contiguous(memory_format=memory_format(x))


def computed_in(x: Tensor) -> torch.dtype:
    """The dtype of intermediate values: float64 for float64, so that gradients can be checked, otherwise float32."""
    return torch.float64 if x.dtype == torch.float64 else torch.float32


def vector(itemsize: int, *sizes: int) -> int:
    """Number of values in the widest aligned access: a power of two that divides all sizes, 16 bytes at most.

    A kernel that takes ``size // vector`` and multiplies it by this constant lets the compiler see the alignment.
    Divisibility that is merely true of the numbers gives accesses of one value each.
    """
    return math.gcd(_VECTOR_BYTES // itemsize, *sizes)


def power_of_two(size: int) -> int:
    """The smallest power of two that is not below ``size``."""
    return 1 << max(0, size - 1).bit_length()


@cache
def processors(device: torch.device) -> int:
    """Number of multiprocessors of a GPU; an H200's 132 for a CPU, where kernels run in Triton's interpreter."""
    return torch.cuda.get_device_properties(device).multi_processor_count if device.type == "cuda" else 132


def fits(x: Tensor, pixels: int) -> bool:
    """Whether the kernels can process (N, C, H, W) into planes of ``pixels`` pixels.

    They need a supported dtype, and numbers of planes and of pixels that fit 32 bits. Offsets are 64-bit and have no
    limit.
    """
    return x.dtype in ON_CUDA and x.shape[0] * x.shape[1] <= _MOST and pixels <= _MOST


def check_image(name: str, x: Tensor) -> None:
    """Require (N, C, H, W) of a floating-point dtype.

    Raises:
        ValueError: The rank is another.
        TypeError: The dtype is another.
    """
    if x.ndim != 4:
        raise ValueError(f"{name} must be (N, C, H, W), not of shape {tuple(x.shape)}")
    if x.dtype not in FLOATS:
        raise TypeError(f"{name} must be float32, float16, bfloat16 or float64, not {x.dtype}")


def check_like(name: str, value: Tensor | None, x: Tensor, *shapes: tuple[int, ...]) -> None:
    """Require an optional companion of ``x`` to have one of ``shapes``, a floating-point dtype and ``x``'s device.

    Raises:
        ValueError: The shape or the device is another.
        TypeError: The dtype is another.
    """
    if value is None:
        return
    if tuple(value.shape) not in shapes:
        wanted = " or ".join(str(shape) for shape in shapes)
        raise ValueError(f"{name} must be of shape {wanted}, not {tuple(value.shape)}")
    if value.dtype not in FLOATS:
        raise TypeError(f"{name} must be floating point, not {value.dtype}")
    if value.device != x.device:
        raise ValueError(f"{name} is on {value.device}, but the image on {x.device}")
