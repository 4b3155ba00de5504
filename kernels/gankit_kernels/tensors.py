"""Layouts, dtypes and shapes: what every operation asks of its tensors."""

from __future__ import annotations

import math
from functools import cache

import torch
from torch import Tensor

FLOATS = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
ON_CUDA = (torch.float32, torch.float16, torch.bfloat16)  # the dtypes that the kernels know
_VECTOR_BYTES = 16  # the widest access of a GPU's thread
_MOST = 2**31 - 2**20  # planes, which a grid counts, and pixels of a plane, with room for a last block


def channels_last(x: Tensor) -> bool:
    """Whether the pixels of (N, C, H, W), not its planes, lie together. A tensor that is both counts as planes."""
    return not x.is_contiguous() and x.shape[1] > 1 and x.stride(1) == 1


def memory_format(x: Tensor) -> torch.memory_format:
    """The layout that a result has whose source is ``x``."""
    return torch.channels_last if channels_last(x) else torch.contiguous_format


def dense(x: Tensor) -> Tensor:
    """``x`` itself where every picture of the batch lies dense in planes or in pixels, else a dense copy.

    The pictures may be apart: every second of a batch needs no copy, nor do the first channels of planes.
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
    """float64 for float64, for the sake of gradient checks, else float32."""
    return torch.float64 if x.dtype == torch.float64 else torch.float32


def vector(itemsize: int, *sizes: int) -> int:
    """Values in the widest aligned access: a power of two that divides all sizes, 16 bytes at most.

    A kernel that is told ``size // vector`` and multiplies by this constant lets the compiler see the alignment;
    a divisibility that is only a fact of the numbers gives accesses of one value.
    """
    return math.gcd(_VECTOR_BYTES // itemsize, *sizes)


def power_of_two(size: int) -> int:
    """The smallest power of two that is not below ``size``."""
    return 1 << max(0, size - 1).bit_length()


@cache
def processors(device: torch.device) -> int:
    """Multiprocessors of a GPU; an H200's 132 for anything else, where kernels run in Triton's interpreter."""
    return torch.cuda.get_device_properties(device).multi_processor_count if device.type == "cuda" else 132


def fits(x: Tensor, pixels: int) -> bool:
    """Whether the kernels can take (N, C, H, W) and make planes of so many pixels: dtype, and 32-bit numbers of both.

    Offsets are 64-bit and have no limit.
    """
    return x.dtype in ON_CUDA and x.shape[0] * x.shape[1] <= _MOST and pixels <= _MOST


def check_picture(name: str, x: Tensor) -> None:
    """Require (N, C, H, W) of a floating-point dtype.

    Raises:
        ValueError: another rank.
        TypeError: another dtype.
    """
    if x.ndim != 4:
        raise ValueError(f"{name} must be (N, C, H, W), not of shape {tuple(x.shape)}")
    if x.dtype not in FLOATS:
        raise TypeError(f"{name} must be float32, float16, bfloat16 or float64, not {x.dtype}")


def check_like(name: str, value: Tensor | None, x: Tensor, *shapes: tuple[int, ...]) -> None:
    """Require an optional companion of ``x`` to have one of the shapes, to be floating point and on its device.

    Raises:
        ValueError: another shape or device.
        TypeError: another dtype.
    """
    if value is None:
        return
    if tuple(value.shape) not in shapes:
        wanted = " or ".join(str(shape) for shape in shapes)
        raise ValueError(f"{name} must be of shape {wanted}, not {tuple(value.shape)}")
    if value.dtype not in FLOATS:
        raise TypeError(f"{name} must be floating point, not {value.dtype}")
    if value.device != x.device:
        raise ValueError(f"{name} is on {value.device}, but the picture on {x.device}")
