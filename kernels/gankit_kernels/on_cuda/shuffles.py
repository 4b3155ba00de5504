"""PixelShuffle's kernels.

Channel c of the result at sub-pixel k = i·r + j is channel ``c * channel_step + k * sub_step`` of ``x``. The two steps
are (r², 1) in PyTorch's order of channels and (1, C) in the order (sub-row, sub-column, channel).
"""

from __future__ import annotations

import triton
import triton.language as tl

from gankit_kernels.on_cuda.common import INTEGERS, activate


@triton.jit
def _finish(value, bias, at, slope, mask, BIAS: tl.constexpr, ACT: tl.constexpr):
    """Apply bias and activation to loaded values; ``at`` is their channel of ``x``, ``slope`` matches their shape."""
    value = value.to(tl.float32)
    if BIAS:
        value += tl.load(bias + at, mask=mask, other=0.0).to(tl.float32)
    return activate(value, slope, ACT)


@triton.jit
def _four(first, step, mask):
    """Load the tiles of four planes; every load is issued before the first is used."""
    one = tl.load(first, mask=mask, other=0.0)
    two = tl.load(first + step, mask=mask, other=0.0)
    three = tl.load(first + 2 * step, mask=mask, other=0.0)
    four = tl.load(first + 3 * step, mask=mask, other=0.0)
    return one, two, three, four


@triton.jit
def _plane(value, bias, at, slope, dtype: tl.constexpr, BIAS: tl.constexpr, ACT: tl.constexpr):
    """Apply bias and activation to a loaded tile of channel ``at``."""
    value = value.to(tl.float32)
    if BIAS:
        value += tl.load(bias + at).to(tl.float32)
    return activate(value, slope, ACT).to(dtype)


@triton.jit(do_not_specialize=INTEGERS)
def planes(
    x, bias, prelu, y, channels, height, width_v, batch_v, channel_step, sub_step, row_blocks, column_blocks, slope,
    R: tl.constexpr, VEC: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr, ACT: tl.constexpr,
    BIAS: tl.constexpr, PRELU: tl.constexpr, SHARED: tl.constexpr,
):  # fmt: skip
    """Shuffle planes by R = 2 or 4: ROWS×COLUMNS of R² source planes, interleaved in registers into rows."""
    width = width_v * VEC
    rest = tl.program_id(0) // column_blocks
    column_block = tl.program_id(0) - rest * column_blocks
    plane = rest // row_blocks
    sample = plane // channels
    channel = plane - sample * channels
    row = (rest - plane * row_blocks) * ROWS + tl.arange(0, ROWS)
    column = column_block * COLUMNS + tl.arange(0, COLUMNS)
    out_column = column_block * (COLUMNS * R) + tl.arange(0, COLUMNS * R)
    mask = (row < height)[:, None] & (column < width)[None, :]
    out_mask = (row < height)[:, None] & (out_column < width * R)[None, :]
    if PRELU:
        slope = tl.load(prelu + (0 if SHARED else channel)).to(tl.float32)
    size = tl.cast(height, tl.int64) * width
    source = x + sample.to(tl.int64) * batch_v * VEC + (row.to(tl.int64) * width)[:, None] + column[None, :]
    to = y + plane.to(tl.int64) * (size * (R * R)) + out_column[None, :]
    dtype: tl.constexpr = y.dtype.element_ty
    step = sub_step * size  # from a sub-pixel's plane to the next
    if R == 2:
        at = channel * channel_step
        one, two, three, four = _four(source + at * size, step, mask)
        upper = tl.interleave(
            _plane(one, bias, at, slope, dtype, BIAS, ACT), _plane(two, bias, at + sub_step, slope, dtype, BIAS, ACT)
        )
        lower = tl.interleave(
            _plane(three, bias, at + 2 * sub_step, slope, dtype, BIAS, ACT),
            _plane(four, bias, at + 3 * sub_step, slope, dtype, BIAS, ACT),
        )
        tl.store(to + (row.to(tl.int64) * 2 * (width * 2))[:, None], upper, mask=out_mask)
        tl.store(to + ((row.to(tl.int64) * 2 + 1) * (width * 2))[:, None], lower, mask=out_mask)
    else:
        for i in tl.static_range(R):
            at = channel * channel_step + i * R * sub_step
            one, two, three, four = _four(source + at * size, step, mask)
            even = tl.interleave(
                _plane(one, bias, at, slope, dtype, BIAS, ACT),
                _plane(three, bias, at + 2 * sub_step, slope, dtype, BIAS, ACT),
            )
            odd = tl.interleave(
                _plane(two, bias, at + sub_step, slope, dtype, BIAS, ACT),
                _plane(four, bias, at + 3 * sub_step, slope, dtype, BIAS, ACT),
            )
            out = ((row.to(tl.int64) * R + i) * (width * R))[:, None]
            tl.store(to + out, tl.interleave(even, odd), mask=out_mask)


@triton.jit(do_not_specialize=INTEGERS)
def pixels(
    x, bias, prelu, y, channels_v, height, width, batch_v, pixel_blocks, channel_blocks, slope,
    R: tl.constexpr, VEC: tl.constexpr, PIXELS: tl.constexpr, CHANNELS: tl.constexpr, ACT: tl.constexpr,
    BIAS: tl.constexpr, PRELU: tl.constexpr, SHARED: tl.constexpr,
):  # fmt: skip
    """Shuffle PIXELS pixels, channels_last in PyTorch's order, by R = 2 or 4: a transposition in shared memory."""
    channels = channels_v * VEC
    rest = tl.program_id(0) // channel_blocks
    block = tl.program_id(0) - rest * channel_blocks
    sample = rest // pixel_blocks
    first = (rest - sample * pixel_blocks) * PIXELS
    size = height * width
    p = first + tl.arange(0, PIXELS)
    at = block * (CHANNELS * R * R) + tl.arange(0, CHANNELS * R * R)
    known = at < channels * (R * R)
    offset = (p.to(tl.int64) * (channels * (R * R)))[:, None] + at[None, :]
    mask = (p < size)[:, None] & known[None, :]
    value = tl.load(x + sample.to(tl.int64) * batch_v * VEC + offset, mask=mask, other=0.0)
    if PRELU:
        slope = tl.load(prelu + (0 * at if SHARED else at // (R * R)), mask=known, other=0.0).to(tl.float32)[None, :]
    value = _finish(value, bias, at[None, :], slope, known[None, :], BIAS, ACT).to(y.dtype.element_ty)
    value = tl.reshape(value, (PIXELS, CHANNELS, R * R))
    value = tl.reshape(tl.permute(value, (0, 2, 1)), (PIXELS * R * R, CHANNELS))
    q = tl.arange(0, PIXELS * R * R)
    source = first + q // (R * R)
    i = (q // R) % R
    h = source // width
    w = source - h * width
    out_row = (sample.to(tl.int64) * height + h) * R + i
    out_pixel = out_row * (tl.cast(width, tl.int64) * R) + w * R + q % R
    c = block * CHANNELS + tl.arange(0, CHANNELS)
    out_mask = (source < size)[:, None] & (c < channels)[None, :]
    tl.store(y + (out_pixel * channels)[:, None] + c[None, :], value, mask=out_mask)


@triton.jit(do_not_specialize=INTEGERS)
def runs(
    x, bias, prelu, y, channels, height, width, run_v, batch_v, pixel_v, column_blocks, run_blocks, slope,
    R: tl.constexpr, VEC: tl.constexpr, PIXELS: tl.constexpr, RUN: tl.constexpr, ACT: tl.constexpr,
    BIAS: tl.constexpr, PRELU: tl.constexpr, SHARED: tl.constexpr,
):  # fmt: skip
    """Shuffle channels_last in the order (sub-row, sub-column, channel) by any R: copy runs of R·C values unchanged.

    ``pixel_v`` is the distance between pixels of ``x``, in units of VEC values: more than R·R·C where a convolution's
    last channels are not part of the image.
    """
    run = run_v * VEC
    pixel = pixel_v * VEC
    rest = tl.program_id(0) // run_blocks
    t = (tl.program_id(0) - rest * run_blocks) * RUN + tl.arange(0, RUN)
    out_row = rest // column_blocks  # over images and rows of the result
    w = (rest - out_row * column_blocks) * PIXELS + tl.arange(0, PIXELS)
    row = out_row // R
    i = out_row - row * R
    sample = row // height
    source = x + sample.to(tl.int64) * batch_v * VEC + (row - sample * height).to(tl.int64) * width * pixel
    known = t < run
    mask = (w < width)[:, None] & known[None, :]
    value = tl.load(source + (w.to(tl.int64) * pixel)[:, None] + (i * run + t)[None, :], mask=mask, other=0.0)
    if PRELU:
        slope = tl.load(prelu + (0 * t if SHARED else t % channels), mask=known, other=0.0).to(tl.float32)[None, :]
    value = _finish(value, bias, (i * run + t)[None, :], slope, known[None, :], BIAS, ACT)
    to = y + out_row.to(tl.int64) * (tl.cast(width, tl.int64) * run)
    tl.store(to + (w.to(tl.int64) * run)[:, None] + t[None, :], value.to(y.dtype.element_ty), mask=mask)


@triton.jit(do_not_specialize=INTEGERS)
def gather(
    x, bias, prelu, y, channels, height, width, batch, channel_stride, pixel_stride, channel_step, sub_step,
    blocks, slope,
    R: tl.constexpr, BLOCK: tl.constexpr, LAST: tl.constexpr, ACT: tl.constexpr,
    BIAS: tl.constexpr, PRELU: tl.constexpr, SHARED: tl.constexpr,
):  # fmt: skip
    """Shuffle in any layout and order by any R: gather BLOCK values of one row of the result one by one."""
    out_row = tl.program_id(0) // blocks
    e = (tl.program_id(0) - out_row * blocks) * BLOCK + tl.arange(0, BLOCK)
    plane = out_row // (height * R)
    row = out_row - plane * (height * R)
    if LAST:
        sample = plane
        length = width * R * channels
        out_column = e // channels
        c = e - out_column * channels
    else:
        sample = plane // channels
        length = width * R
        out_column = e
        c = plane - sample * channels + 0 * e
    mask = e < length
    k = (row % R) * R + out_column % R
    at = c * channel_step + k * sub_step
    pixel = (row // R).to(tl.int64) * width + out_column // R
    source = x + sample.to(tl.int64) * batch + at.to(tl.int64) * channel_stride + pixel * pixel_stride
    if PRELU:
        slope = tl.load(prelu + (0 * c if SHARED else c), mask=mask, other=0.0).to(tl.float32)
    value = _finish(tl.load(source, mask=mask, other=0.0), bias, at, slope, mask, BIAS, ACT)
    tl.store(y + out_row.to(tl.int64) * length + e, value.to(y.dtype.element_ty), mask=mask)
