"""The kernel that writes an epilogue's result into the inputs of several convolutions: one read, one write for each."""

from __future__ import annotations

import triton
import triton.language as tl

from gankit_kernels.on_cuda.common import INTEGERS, finish


@triton.jit
def _to(target, row, width_v, first, c, result, mask, VEC: tl.constexpr):
    """Write the channels of some pixels into a dense channels_last tensor of another width."""
    at = target + (row * (tl.cast(width_v, tl.int64) * VEC))[:, None] + (first + c)[None, :]
    tl.store(at, result.to(target.dtype.element_ty), mask=mask)


@triton.jit(do_not_specialize=INTEGERS)
def spread(
    x, bias, prelu, residual, y, target0, target1, target2, target3,
    channels_v, size, channel_blocks, first_v, width0_v, width1_v, width2_v, width3_v, slope, scale,
    VEC: tl.constexpr, PIXELS: tl.constexpr, CHANNELS: tl.constexpr, ACT: tl.constexpr,
    BIAS: tl.constexpr, PRELU: tl.constexpr, SHARED: tl.constexpr, RESIDUAL: tl.constexpr, BEFORE: tl.constexpr,
    OWN: tl.constexpr, TARGETS: tl.constexpr,
):  # fmt: skip
    """Process PIXELS pixels of CHANNELS channels of a dense channels_last tensor of ``size`` pixels.

    ``y`` is written if OWN, and may be ``x``. The first TARGETS targets are written; the widths are their channels.
    """
    channels = channels_v * VEC
    first = first_v * VEC
    block = tl.program_id(0) // channel_blocks
    c = (tl.program_id(0) - block * channel_blocks) * CHANNELS + tl.arange(0, CHANNELS)
    p = tl.arange(0, PIXELS)
    begin = block.to(tl.int64) * PIXELS
    known = c < channels
    mask = (p < size - begin)[:, None] & known[None, :]
    row = begin + p
    at = (row * channels)[:, None] + c[None, :]
    # issue every load before the first computation
    value = tl.load(x + at, mask=mask, other=0.0)
    added, shift = 0.0, 0.0
    if RESIDUAL:
        loaded = tl.load(residual + at, mask=mask, other=0.0)
    if BIAS:
        shift = tl.load(bias + c, mask=known, other=0.0).to(tl.float32)[None, :]
    if PRELU:
        slope = tl.load(prelu + (0 * c if SHARED else c), mask=known, other=0.0).to(tl.float32)[None, :]
    if RESIDUAL:
        added = loaded.to(tl.float32)
    result = finish(value.to(tl.float32), shift, slope, added, scale, ACT, BEFORE)
    if OWN:
        tl.store(y + at, result.to(y.dtype.element_ty), mask=mask)
    if TARGETS > 0:
        _to(target0, row, width0_v, first, c, result, mask, VEC)
    if TARGETS > 1:
        _to(target1, row, width1_v, first, c, result, mask, VEC)
    if TARGETS > 2:
        _to(target2, row, width2_v, first, c, result, mask, VEC)
    if TARGETS > 3:
        _to(target3, row, width3_v, first, c, result, mask, VEC)
