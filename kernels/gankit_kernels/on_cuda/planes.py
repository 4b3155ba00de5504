"""InstanceNorm's kernels for planes (NCHW)."""

from __future__ import annotations

import triton
import triton.language as tl

from gankit_kernels.on_cuda.common import activate, merge, part_counts, reflect


@triton.jit
def resident(
    x, weight, bias, residual, y,
    planes, channels, size_v, batch_v, residual_v, eps, slope,
    VEC: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr, ACT: tl.constexpr,
    WEIGHT: tl.constexpr, BIAS: tl.constexpr, RESIDUAL: tl.constexpr,
):  # fmt: skip
    """ROWS whole planes of up to BLOCK values in registers: one read, one write.

    Sizes ending in ``_v`` are in units of VEC values, so that the compiler sees what they are multiples of; in products
    they come behind a 64-bit number, because times VEC they may pass 2³¹. Here: values of a plane, values from one
    picture of ``x`` to the next, and the same of ``residual``.
    """
    size = size_v * VEC
    plane = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    sample = plane // channels
    channel = plane - sample * channels
    here = plane < planes
    i = tl.arange(0, BLOCK)
    mask = here[:, None] & (i < size)[None, :]
    inner = channel.to(tl.int64) * size  # int64 before any product that can pass 2³¹
    value = tl.load(x + (sample.to(tl.int64) * batch_v * VEC + inner)[:, None] + i[None, :], mask=mask, other=0.0)
    first = tl.sum(value.to(tl.float32), 1) / size
    apart = tl.where(mask, value.to(tl.float32) - first[:, None], 0.0)
    step = tl.sum(apart, 1) / size
    variance = tl.sum(apart * apart, 1) / size - step * step
    mean = first + step
    factor = tl.math.rsqrt(tl.where(variance < 0.0, 0.0, variance) + eps)
    if WEIGHT:
        factor *= tl.load(weight + channel, mask=here, other=0.0).to(tl.float32)
    result = (value.to(tl.float32) - mean[:, None]) * factor[:, None]
    if BIAS:
        result += tl.load(bias + channel, mask=here, other=0.0).to(tl.float32)[:, None]
    result = activate(result, slope, ACT)
    if RESIDUAL:
        start = sample.to(tl.int64) * residual_v * VEC + inner
        result += tl.load(residual + start[:, None] + i[None, :], mask=mask, other=0.0).to(tl.float32)
    out = y + (plane.to(tl.int64) * size)[:, None] + i[None, :]
    tl.store(out, result.to(y.dtype.element_ty), mask=mask)


@triton.jit
def statistics(
    x, means, squares, channels, size_v, batch_v, parts, chunk_blocks,
    VEC: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Mean and squared deviations of one part of a plane.

    Every lane keeps Welford's running pair of the values that it sees, so that no lane waits for another inside the
    loop; the lanes are merged once at the end. ``means`` and ``squares`` are (planes, parts) float32.
    """
    size = tl.cast(size_v, tl.int64) * VEC  # of a whole picture, where one group takes all channels
    plane = tl.program_id(0) // parts
    part = tl.program_id(0) - plane * parts
    sample = plane // channels
    channel = plane - sample * channels
    chunk = chunk_blocks * BLOCK
    start = part.to(tl.int64) * chunk
    base = x + sample.to(tl.int64) * batch_v * VEC + channel * size + start
    rest = size - start
    here = tl.minimum(rest, chunk).to(tl.int32)
    i = tl.arange(0, BLOCK)
    mean = tl.zeros((BLOCK,), tl.float32)
    square = tl.zeros((BLOCK,), tl.float32)
    for k in range(0, here, BLOCK):
        valid = k + i < rest
        value = tl.load(base + k + i, mask=valid, other=0.0).to(tl.float32)
        apart = tl.where(valid, value - mean, 0.0)
        mean += apart * (1.0 / tl.cast(k // BLOCK + 1, tl.float32))
        square += apart * (value - mean)
    count = ((here - i + (BLOCK - 1)) // BLOCK).to(tl.float32)
    _, mean, square = merge(count, mean, square)
    tl.store(means + tl.program_id(0), mean)
    tl.store(squares + tl.program_id(0), square)


@triton.jit
def apply(
    x, means, squares, weight, bias, residual, y,
    channels, height, width, pad, size_v, batch_v, residual_v, residual_channel, residual_row, residual_column,
    parts, chunk, out_parts, out_blocks, eps, slope,
    VEC: tl.constexpr, BLOCK: tl.constexpr, PARTS: tl.constexpr, ACT: tl.constexpr,
    WEIGHT: tl.constexpr, BIAS: tl.constexpr, RESIDUAL: tl.constexpr, INDEXED: tl.constexpr, WHOLE: tl.constexpr,
):  # fmt: skip
    """Merge the parts' statistics, then normalise a chunk of one plane of the result.

    INDEXED: rows and columns are computed, for a reflected border or a residual with strides of its own. WHOLE: the
    statistics are those of all channels of a picture.
    """
    size = size_v * VEC
    plane = tl.program_id(0) // out_parts
    part = tl.program_id(0) - plane * out_parts
    sample = plane // channels
    channel = plane - sample * channels
    if WHOLE:
        row = sample
        count = part_counts(tl.cast(size, tl.int64) * channels, chunk, parts, PARTS)
    else:
        row = plane
        count = part_counts(size, chunk, parts, PARTS)
    at = row.to(tl.int64) * parts + tl.arange(0, PARTS)
    known = tl.arange(0, PARTS) < parts
    total, mean, square = merge(
        count, tl.load(means + at, mask=known, other=0.0), tl.load(squares + at, mask=known, other=0.0)
    )
    factor = tl.math.rsqrt(square / total + eps)
    shift = 0.0
    if WEIGHT:
        factor *= tl.load(weight + channel).to(tl.float32)
    if BIAS:
        shift = tl.load(bias + channel).to(tl.float32)
    base = x + sample.to(tl.int64) * batch_v * VEC + channel.to(tl.int64) * size
    first = part.to(tl.int64) * (out_blocks * BLOCK)
    i = tl.arange(0, BLOCK)
    if INDEXED:
        out_width = width + 2 * pad
        out_size = (height + 2 * pad) * out_width
        from_residual = residual + sample.to(tl.int64) * residual_v + channel.to(tl.int64) * residual_channel
        to = y + plane.to(tl.int64) * out_size
        for k in range(0, out_blocks):
            o = first.to(tl.int32) + k * BLOCK + i
            valid = o < out_size
            out_row = o // out_width
            h = reflect(out_row - pad, height)
            w = reflect(o - out_row * out_width - pad, width)
            value = tl.load(base + h * width + w, mask=valid, other=0.0).to(tl.float32)
            result = activate((value - mean) * factor + shift, slope, ACT)
            if RESIDUAL:
                at_row = h.to(tl.int64) * residual_row + w.to(tl.int64) * residual_column
                result += tl.load(from_residual + at_row, mask=valid, other=0.0).to(tl.float32)
            tl.store(to + o, result.to(y.dtype.element_ty), mask=valid)
    else:
        to = y + plane.to(tl.int64) * size + first
        from_residual = residual + sample.to(tl.int64) * residual_v * VEC + channel.to(tl.int64) * size + first
        rest = size - first
        for k in range(0, out_blocks):
            valid = k * BLOCK + i < rest
            value = tl.load(base + first + k * BLOCK + i, mask=valid, other=0.0).to(tl.float32)
            result = activate((value - mean) * factor + shift, slope, ACT)
            if RESIDUAL:
                result += tl.load(from_residual + k * BLOCK + i, mask=valid, other=0.0).to(tl.float32)
            tl.store(to + k * BLOCK + i, result.to(y.dtype.element_ty), mask=valid)
