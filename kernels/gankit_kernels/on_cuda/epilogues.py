"""The epilogue's kernels: one read and one write, in place where the launch says so.

Every kernel processes one block of values, which its threads load with a few wide accesses at once. ``x`` and ``y`` may
be the same tensor, except in ``bordered`` with a border.
"""

from __future__ import annotations

import triton
import triton.language as tl

from gankit_kernels.on_cuda.common import INTEGERS, finish, reflect


@triton.jit(do_not_specialize=INTEGERS)
def pixels(
    x, bias, prelu, residual, y, channels_v, size, channel_blocks, slope, scale,
    VEC: tl.constexpr, PIXELS: tl.constexpr, CHANNELS: tl.constexpr, ACT: tl.constexpr,
    BIAS: tl.constexpr, PRELU: tl.constexpr, SHARED: tl.constexpr, RESIDUAL: tl.constexpr, BEFORE: tl.constexpr,
):  # fmt: skip
    """Process PIXELS pixels of CHANNELS channels of a dense channels_last tensor of ``size`` pixels.

    Each thread has the same few channels for all of its pixels, so that no index is divided by the channels.
    """
    channels = channels_v * VEC
    block = tl.program_id(0) // channel_blocks
    c = (tl.program_id(0) - block * channel_blocks) * CHANNELS + tl.arange(0, CHANNELS)
    p = tl.arange(0, PIXELS)
    first = block.to(tl.int64) * PIXELS
    known = c < channels
    mask = (p < size - first)[:, None] & known[None, :]
    at = first * channels + p[:, None] * channels + c[None, :]
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
    tl.store(y + at, result.to(y.dtype.element_ty), mask=mask)


@triton.jit(do_not_specialize=INTEGERS)
def values(
    x, bias, prelu, residual, y, count_v, slope, scale,
    C: tl.constexpr, VEC: tl.constexpr, BLOCK: tl.constexpr, ACT: tl.constexpr,
    BIAS: tl.constexpr, PRELU: tl.constexpr, SHARED: tl.constexpr, RESIDUAL: tl.constexpr, BEFORE: tl.constexpr,
):  # fmt: skip
    """Process BLOCK values of a dense channels_last tensor whose C channels are no multiple of a wide access.

    C is compiled in, so that the division is a multiplication. Such tensors are a generator's RGB image, or nearly.
    """
    count = tl.cast(count_v, tl.int64) * VEC
    first = tl.program_id(0).to(tl.int64) * BLOCK
    i = tl.arange(0, BLOCK)
    mask = i < count - first
    value = tl.load(x + first + i, mask=mask, other=0.0)
    added, shift = 0.0, 0.0
    if RESIDUAL:
        added = tl.load(residual + first + i, mask=mask, other=0.0).to(tl.float32)
    c = ((first % C).to(tl.int32) + i) % C
    if BIAS:
        shift = tl.load(bias + c, mask=mask, other=0.0).to(tl.float32)
    if PRELU:
        slope = tl.load(prelu + (0 * c if SHARED else c), mask=mask, other=0.0).to(tl.float32)
    result = finish(value.to(tl.float32), shift, slope, added, scale, ACT, BEFORE)
    tl.store(y + first + i, result.to(y.dtype.element_ty), mask=mask)


@triton.jit(do_not_specialize=INTEGERS)
def planes(
    x, bias, prelu, residual, y, channels, size_v, blocks, slope, scale,
    VEC: tl.constexpr, BLOCK: tl.constexpr, ACT: tl.constexpr,
    BIAS: tl.constexpr, PRELU: tl.constexpr, SHARED: tl.constexpr, RESIDUAL: tl.constexpr, BEFORE: tl.constexpr,
):  # fmt: skip
    """Process BLOCK values of one plane of a dense tensor."""
    size = size_v * VEC
    plane = tl.program_id(0) // blocks
    block = tl.program_id(0) - plane * blocks
    channel = plane % channels
    i = block * BLOCK + tl.arange(0, BLOCK)
    mask = i < size
    base = plane.to(tl.int64) * size
    value = tl.load(x + base + i, mask=mask, other=0.0)
    added, shift = 0.0, 0.0
    if RESIDUAL:
        loaded = tl.load(residual + base + i, mask=mask, other=0.0)
    if BIAS:
        shift = tl.load(bias + channel).to(tl.float32)
    if PRELU:
        slope = tl.load(prelu + (0 * channel if SHARED else channel)).to(tl.float32)
    if RESIDUAL:
        added = loaded.to(tl.float32)
    result = finish(value.to(tl.float32), shift, slope, added, scale, ACT, BEFORE)
    tl.store(y + base + i, result.to(y.dtype.element_ty), mask=mask)


@triton.jit(do_not_specialize=INTEGERS)
def bordered(
    x, bias, prelu, residual, y,
    channels_v, height, width, left, top, out_width, out_size, batch_v, row_v, pixel_v,
    residual_v, residual_row, residual_column, pixel_blocks, channel_blocks, slope, scale,
    VEC: tl.constexpr, PIXELS: tl.constexpr, CHANNELS: tl.constexpr, ACT: tl.constexpr,
    BIAS: tl.constexpr, PRELU: tl.constexpr, SHARED: tl.constexpr, RESIDUAL: tl.constexpr, BEFORE: tl.constexpr,
):  # fmt: skip
    """Process PIXELS pixels of a channels_last result with a reflected border, or from sources with any row strides.

    ``left`` and ``top`` are widths of the border. The strides of ``x`` and ``residual`` are in units of VEC values.
    Rows and columns are computed once for a pixel, not for a value.
    """
    channels = channels_v * VEC
    rest_of = tl.program_id(0) // channel_blocks
    c = (tl.program_id(0) - rest_of * channel_blocks) * CHANNELS + tl.arange(0, CHANNELS)
    sample = rest_of // pixel_blocks
    o = (rest_of - sample * pixel_blocks) * PIXELS + tl.arange(0, PIXELS)
    known = c < channels
    mask = (o < out_size)[:, None] & known[None, :]
    out_row = o // out_width
    h = reflect(out_row - top, height)
    w = reflect(o - out_row * out_width - left, width)
    source = sample.to(tl.int64) * batch_v * VEC + h.to(tl.int64) * row_v * VEC + w.to(tl.int64) * pixel_v * VEC
    value = tl.load(x + source[:, None] + c[None, :], mask=mask, other=0.0)
    added, shift = 0.0, 0.0
    if RESIDUAL:
        begin = sample.to(tl.int64) * residual_v * VEC
        other = begin + h.to(tl.int64) * residual_row * VEC + w.to(tl.int64) * residual_column * VEC
        loaded = tl.load(residual + other[:, None] + c[None, :], mask=mask, other=0.0)
    if BIAS:
        shift = tl.load(bias + c, mask=known, other=0.0).to(tl.float32)[None, :]
    if PRELU:
        slope = tl.load(prelu + (0 * c if SHARED else c), mask=known, other=0.0).to(tl.float32)[None, :]
    if RESIDUAL:
        added = loaded.to(tl.float32)
    result = finish(value.to(tl.float32), shift, slope, added, scale, ACT, BEFORE)
    to = y + (sample.to(tl.int64) * out_size * channels + o.to(tl.int64) * channels)[:, None] + c[None, :]
    tl.store(to, result.to(y.dtype.element_ty), mask=mask)
