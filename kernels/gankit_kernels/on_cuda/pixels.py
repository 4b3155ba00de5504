"""How the kernels between pixels and values are chosen and launched."""

from __future__ import annotations

import torch
from torch import Tensor

from gankit_kernels.on_cuda import integers
from gankit_kernels.pixels import FULL_SCALE, empty_pixels, empty_values
from gankit_kernels.tensors import channels_last, vector

_BLOCK = 1024  # pixels of a program
_ALIKE = 4096  # values of a program where nothing is turned
_MOST_CHANNELS = 8  # beyond them a loop over channels would be too long to unroll


def launch_from(pixels: Tensor, low: float, high: float, dtype: torch.dtype, last: bool) -> Tensor:
    """Run a kernel; the arguments are those of the operation ``gankit::from_uint8``."""
    y = empty_values(pixels, low, high, dtype, last)
    samples, height, width, channels = pixels.shape
    if y.numel() == 0:
        return y
    pixels = pixels.contiguous()
    scale = (high - low) / FULL_SCALE[pixels.dtype]
    size = height * width
    with torch.cuda.device_of(pixels):
        if last or channels == 1 or channels > _MOST_CHANNELS:
            # a picture of many channels is turned by torch afterwards
            out = y if last or channels == 1 else torch.empty(pixels.shape, dtype=dtype, device=pixels.device)
            integers.values_alike[(-(-y.numel() // _ALIKE),)](
                pixels, out, y.numel(), low, scale, BLOCK=_ALIKE, num_warps=4, enable_fp_fusion=False
            )
            return y if out is y else y.copy_(out.permute(0, 3, 1, 2))
        vec = vector(1, size)
        if _in_words(pixels, channels, vec):
            blocks = -(-size // (4 * 256))
            integers.values_words[(samples * blocks,)](
                pixels.view(-1).view(torch.int32), y, size // vec, blocks, low, scale,
                VEC=vec, BLOCK=256, num_warps=4, enable_fp_fusion=False,
            )  # fmt: skip
        else:
            blocks = -(-size // _BLOCK)
            integers.values_planes[(samples * blocks,)](
                pixels, y, size // vec, blocks, low, scale,
                C=channels, VEC=vec, BLOCK=_BLOCK, num_warps=4, enable_fp_fusion=False,
            )  # fmt: skip
    return y


def launch_to(values: Tensor, low: float, high: float, dtype: torch.dtype) -> Tensor:
    """Run a kernel; the arguments are those of the operation ``gankit::to_uint8``."""
    y = empty_pixels(values, low, high, dtype)
    samples, channels, height, width = values.shape
    if y.numel() == 0:
        return y
    full = FULL_SCALE[dtype]
    scale = full / (high - low)
    size = height * width
    alike = channels_last(values) or channels == 1 or channels > _MOST_CHANNELS
    # dense as a whole, not only within every picture
    values = values.contiguous(memory_format=torch.channels_last if alike else torch.contiguous_format)
    with torch.cuda.device_of(values):
        if alike:
            integers.pixels_alike[(-(-y.numel() // _ALIKE),)](
                values, y, y.numel(), low, scale, full, BLOCK=_ALIKE, num_warps=4, enable_fp_fusion=False
            )
            return y
        vec = vector(1, size)
        if _in_words(y, channels, vec):
            blocks = -(-size // (4 * 256))
            integers.pixels_words[(samples * blocks,)](
                values, y.view(-1).view(torch.int32), size // vec, blocks, low, scale, full,
                VEC=vec, BLOCK=256, num_warps=4, enable_fp_fusion=False,
            )  # fmt: skip
        else:
            blocks = -(-size // _BLOCK)
            integers.pixels_planes[(samples * blocks,)](
                values, y, size // vec, blocks, low, scale, full,
                C=channels, VEC=vec, BLOCK=_BLOCK, num_warps=4, enable_fp_fusion=False,
            )  # fmt: skip
    return y


def _in_words(pixels: Tensor, channels: int, vec: int) -> bool:
    """Whether four pixels are three aligned 32-bit words: 8-bit RGB, pixels in fours, an aligned beginning."""
    return pixels.dtype == torch.uint8 and channels == 3 and vec % 4 == 0 and pixels.data_ptr() % 4 == 0
