"""How the kernels between pixels and values are chosen and launched."""

from __future__ import annotations

import torch
from torch import Tensor

from gankit_kernels.on_cuda import integers
from gankit_kernels.specs import FULL_SCALE, PixelsSpec, ValuesSpec
from gankit_kernels.tensors import channels_last, vector

_BLOCK = 1024  # pixels per program
_ALIKE = 4096  # values per program where the order in memory stays the same
_MOST_CHANNELS = 8  # with more channels the unrolled loop over them would be too long


def launch_from(pixels: Tensor, spec: ValuesSpec) -> Tensor:
    """Run a kernel that converts (N, H, W, C) pixels to (N, C, H, W) values."""
    y = spec.empty(pixels)
    samples, height, width, channels = pixels.shape
    if y.numel() == 0:
        return y
    pixels = pixels.contiguous()
    low = float(spec.low)  # an int would be another type to Triton
    scale = (spec.high - low) / FULL_SCALE[pixels.dtype]
    size = height * width
    with torch.cuda.device_of(pixels):
        if spec.last or channels == 1 or channels > _MOST_CHANNELS:
            # torch transposes an image of many channels afterwards
            direct = spec.last or channels == 1
            out = y if direct else torch.empty(pixels.shape, dtype=spec.dtype, device=pixels.device)
            wide = _wide(y.numel())
            integers.values_alike[(-(-y.numel() // _ALIKE),)](
                pixels, out, y.numel() // wide, low, scale,
                VEC=wide, BLOCK=_ALIKE, num_warps=4, enable_fp_fusion=False,
            )  # fmt: skip
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


def launch_to(values: Tensor, spec: PixelsSpec) -> Tensor:
    """Run a kernel that converts (N, C, H, W) values to (N, H, W, C) pixels."""
    y = spec.empty(values)
    samples, channels, height, width = values.shape
    if y.numel() == 0:
        return y
    low, full = float(spec.low), FULL_SCALE[spec.dtype]
    scale = full / (spec.high - low)
    size = height * width
    alike = channels_last(values) or channels == 1 or channels > _MOST_CHANNELS
    # the whole batch must be dense, not only each image
    values = values.contiguous(memory_format=torch.channels_last if alike else torch.contiguous_format)
    with torch.cuda.device_of(values):
        if alike:
            wide = _wide(y.numel())
            integers.pixels_alike[(-(-y.numel() // _ALIKE),)](
                values, y, y.numel() // wide, low, scale, full,
                VEC=wide, BLOCK=_ALIKE, num_warps=4, enable_fp_fusion=False,
            )  # fmt: skip
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


def _wide(count: int) -> int:
    """Values in an access where the order stays the same: 16 or 1, so that there are only two kernels to compile."""
    return 16 if count % 16 == 0 else 1


def _in_words(pixels: Tensor, channels: int, vec: int) -> bool:
    """Whether every four pixels are three aligned 32-bit words: 8-bit RGB, a multiple of four, an aligned start."""
    return pixels.dtype == torch.uint8 and channels == 3 and vec % 4 == 0 and pixels.data_ptr() % 4 == 0
