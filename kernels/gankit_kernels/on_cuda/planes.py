"""InstanceNorm's kernels for planes (NCHW)."""

from __future__ import annotations

import triton
import triton.language as tl

from gankit_kernels.on_cuda.common import INTEGERS, activate, four_more, merge, one_more, part_counts, reflect, two_more


@triton.jit(do_not_specialize=INTEGERS)
def resident(
    x, weight, bias, residual, y,
    planes, channels, size_v, batch_v, residual_v, eps, slope,
    VEC: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr, ACT: tl.constexpr,
    WEIGHT: tl.constexpr, BIAS: tl.constexpr, RESIDUAL: tl.constexpr,
):  # fmt: skip
    """Normalise ROWS whole planes of up to BLOCK values in registers, with one read and one write.

    Integers ending in ``_v`` are in units of VEC values, which shows the compiler that they are multiples of VEC. In
    products they follow a 64-bit number, because times VEC they may exceed 2³¹. ``size_v`` is a plane's size,
    ``batch_v`` the distance between images of ``x``, and ``residual_v`` that between images of ``residual``.
    """
    size = size_v * VEC
    plane = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    sample = plane // channels
    channel = plane - sample * channels
    here = plane < planes
    i = tl.arange(0, BLOCK)
    mask = here[:, None] & (i < size)[None, :]
    inner = channel.to(tl.int64) * size  # int64 before any product that can pass 2³¹
    # issue every load before the first computation
    value = tl.load(x + (sample.to(tl.int64) * batch_v * VEC + inner)[:, None] + i[None, :], mask=mask, other=0.0)
    if RESIDUAL:
        start = sample.to(tl.int64) * residual_v * VEC + inner
        added = tl.load(residual + start[:, None] + i[None, :], mask=mask, other=0.0)
    if WEIGHT:
        gain = tl.load(weight + channel, mask=here, other=0.0).to(tl.float32)
    if BIAS:
        shift = tl.load(bias + channel, mask=here, other=0.0).to(tl.float32)
    first = tl.sum(value.to(tl.float32), 1) / size
    apart = tl.where(mask, value.to(tl.float32) - first[:, None], 0.0)
    step = tl.sum(apart, 1) / size
    variance = tl.sum(apart * apart, 1) / size - step * step
    mean = first + step
    factor = tl.math.rsqrt(tl.where(variance < 0.0, 0.0, variance) + eps)
    if WEIGHT:
        factor *= gain
    result = (value.to(tl.float32) - mean[:, None]) * factor[:, None]
    if BIAS:
        result += shift[:, None]
    result = activate(result, slope, ACT)
    if RESIDUAL:
        result += added.to(tl.float32)
    out = y + (plane.to(tl.int64) * size)[:, None] + i[None, :]
    tl.store(out, result.to(y.dtype.element_ty), mask=mask)


@triton.jit
def _statistics(base, rest, here, BLOCK: tl.constexpr, PAIRS: tl.constexpr):
    """Mean and squared deviations of the first ``here`` of the ``rest`` values at ``base``.

    ``here`` is a multiple of BLOCK, or else equals ``rest``. Every lane keeps the statistics of the values that it
    loads, so that no lane waits for another inside the loop; the lanes are merged once at the end. PAIRS adds two
    values at a time instead of four, which needs fewer registers.
    """
    i = tl.arange(0, BLOCK)
    mean = tl.zeros((BLOCK,), tl.float32)
    squares = tl.zeros((BLOCK,), tl.float32)
    turns = here // (4 * BLOCK)
    for turn in range(0, turns):
        at = base + turn * (4 * BLOCK) + i
        # issue all four loads before the first is used
        one = tl.load(at)
        two = tl.load(at + BLOCK)
        three = tl.load(at + 2 * BLOCK)
        four = tl.load(at + 3 * BLOCK)
        if PAIRS:
            mean, squares = two_more(mean, squares, 2 * turn, one.to(tl.float32), two.to(tl.float32))
            mean, squares = two_more(mean, squares, 2 * turn + 1, three.to(tl.float32), four.to(tl.float32))
        else:
            mean, squares = four_more(
                mean, squares, turn, one.to(tl.float32), two.to(tl.float32), three.to(tl.float32), four.to(tl.float32)
            )
    for k in range(turns * (4 * BLOCK), here, BLOCK):
        valid = k + i < rest
        value = tl.load(base + k + i, mask=valid, other=0.0).to(tl.float32)
        mean, squares = one_more(mean, squares, k // BLOCK, value, valid)
    return merge(((here - i + (BLOCK - 1)) // BLOCK).to(tl.float32), mean, squares)


@triton.jit
def _write(
    base, residual, to, rest, blocks, mean, factor, shift, slope, ahead,
    BLOCK: tl.constexpr, ACT: tl.constexpr, RESIDUAL: tl.constexpr, BACKWARD: tl.constexpr,
):  # fmt: skip
    """Normalise ``blocks`` blocks of the ``rest`` values at ``base``; ``ahead`` holds the first block.

    The load of the next block is issued before this one is used. The values are not read again, so the cache may evict
    them. BACKWARD begins with the last block, which entered the cache last.
    """
    i = tl.arange(0, BLOCK)
    for k in range(0, blocks):
        now, then = k, k + 1
        if BACKWARD:
            now, then = blocks - 1 - k, blocks - 2 - k
        loaded = ahead
        at = then * BLOCK + i
        further = at >= 0 if BACKWARD else at < blocks * BLOCK
        ahead = tl.load(base + at, mask=(at < rest) & further, other=0.0, eviction_policy="evict_first")
        at = now * BLOCK + i
        result = activate((loaded.to(tl.float32) - mean) * factor + shift, slope, ACT)
        if RESIDUAL:
            result += tl.load(residual + at, mask=at < rest, other=0.0, eviction_policy="evict_first").to(tl.float32)
        tl.store(to + at, result.to(to.dtype.element_ty), mask=at < rest)


@triton.jit
def _write_indexed(
    base, residual, to, height, width, pad, residual_row, residual_column, first, rows, mean, factor, shift, slope,
    BLOCK: tl.constexpr, ACT: tl.constexpr, RESIDUAL: tl.constexpr,
):  # fmt: skip
    """Normalise ``rows`` rows of the result from ``first`` on, with a border or a residual that has its own strides.

    The outer loop takes 32 columns, a warp's width, and the inner loop rows. So no lane divides, and the indices of the
    columns are computed once.
    """
    out_width = width + 2 * pad
    last = tl.minimum(first + rows, height + 2 * pad)
    r = tl.arange(0, BLOCK // 32)
    for column in range(0, out_width, 32):
        c = column + tl.arange(0, 32)
        w = reflect(c - pad, width)
        inside = (c < out_width)[None, :]
        for row in range(first, last, BLOCK // 32):
            o = row + r
            h = reflect(o - pad, height)
            valid = (o < last)[:, None] & inside
            value = tl.load(base + (h * width)[:, None] + w[None, :], mask=valid, other=0.0).to(tl.float32)
            result = activate((value - mean) * factor + shift, slope, ACT)
            if RESIDUAL:
                at = (h.to(tl.int64) * residual_row)[:, None] + (w.to(tl.int64) * residual_column)[None, :]
                result += tl.load(residual + at, mask=valid, other=0.0).to(tl.float32)
            tl.store(to + (o * out_width)[:, None] + c[None, :], result.to(to.dtype.element_ty), mask=valid)


@triton.jit(do_not_specialize=INTEGERS)
def alone(
    x, weight, bias, residual, y,
    channels, height, width, pad, size_v, batch_v, residual_v, residual_channel, residual_row, residual_column,
    eps, slope,
    VEC: tl.constexpr, BLOCK: tl.constexpr, ACT: tl.constexpr,
    WEIGHT: tl.constexpr, BIAS: tl.constexpr, RESIDUAL: tl.constexpr, INDEXED: tl.constexpr,
):  # fmt: skip
    """Normalise one plane, which the same program reads twice: forwards, then backwards out of the caches.

    This serves planes that are too large for registers but enough in number for all multiprocessors, and planes with a
    border.
    """
    size = size_v * VEC
    plane = tl.program_id(0)
    sample = plane // channels
    channel = plane - sample * channels
    gain, shift = 1.0, 0.0
    if WEIGHT:
        gain = tl.load(weight + channel).to(tl.float32)
    if BIAS:
        shift = tl.load(bias + channel).to(tl.float32)
    base = x + sample.to(tl.int64) * batch_v * VEC + channel.to(tl.int64) * size
    total, mean, square = _statistics(base, size, size, BLOCK, True)
    factor = tl.math.rsqrt(square / total + eps) * gain
    if INDEXED:
        out_width = width + 2 * pad
        rows = height + 2 * pad
        from_residual = residual + sample.to(tl.int64) * residual_v + channel.to(tl.int64) * residual_channel
        _write_indexed(
            base, from_residual, y + plane.to(tl.int64) * (rows * out_width), height, width, pad, residual_row,
            residual_column, 0, rows, mean, factor, shift, slope, BLOCK, ACT, RESIDUAL,
        )  # fmt: skip
    else:
        from_residual = residual + sample.to(tl.int64) * residual_v * VEC + channel.to(tl.int64) * size
        blocks = (size + (BLOCK - 1)) // BLOCK
        i = (blocks - 1) * BLOCK + tl.arange(0, BLOCK)
        ahead = tl.load(base + i, mask=i < size, other=0.0, eviction_policy="evict_first")
        _write(
            base, from_residual, y + plane.to(tl.int64) * size, size, blocks, mean, factor, shift, slope, ahead,
            BLOCK, ACT, RESIDUAL, True,
        )  # fmt: skip


@triton.jit(do_not_specialize=INTEGERS)
def statistics(
    x, means, squares, channels, size_v, batch_v, parts, chunk_blocks,
    VEC: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Mean and squared deviations of one part of a plane; ``means`` and ``squares`` are (planes, parts) float32."""
    size = tl.cast(size_v, tl.int64) * VEC  # of an image where one group has all channels
    plane = tl.program_id(0) // parts
    part = tl.program_id(0) - plane * parts
    sample = plane // channels
    channel = plane - sample * channels
    chunk = chunk_blocks * BLOCK
    start = part.to(tl.int64) * chunk
    base = x + sample.to(tl.int64) * batch_v * VEC + channel * size + start
    rest = size - start
    _, mean, square = _statistics(base, rest, tl.minimum(rest, chunk).to(tl.int32), BLOCK, False)
    tl.store(means + tl.program_id(0), mean)
    tl.store(squares + tl.program_id(0), square)


@triton.jit(do_not_specialize=INTEGERS)
def apply(
    x, means, squares, weight, bias, residual, y,
    channels, height, width, pad, size_v, batch_v, residual_v, residual_channel, residual_row, residual_column,
    parts, chunk, out_parts, out_blocks, eps, slope,
    VEC: tl.constexpr, BLOCK: tl.constexpr, PARTS: tl.constexpr, ACT: tl.constexpr,
    WEIGHT: tl.constexpr, BIAS: tl.constexpr, RESIDUAL: tl.constexpr, INDEXED: tl.constexpr, WHOLE: tl.constexpr,
):  # fmt: skip
    """Merge the statistics of the parts, then normalise a part of one plane of the result.

    The last planes come first, because they entered the caches last. INDEXED computes rows and columns, for a reflected
    border or a residual with its own strides; ``out_blocks`` then counts rows. WHOLE means that the statistics are
    those of all channels of an image.
    """
    size = size_v * VEC
    program = tl.num_programs(0) - 1 - tl.program_id(0)
    plane = program // out_parts
    part = program - plane * out_parts
    sample = plane // channels
    channel = plane - sample * channels
    base = x + sample.to(tl.int64) * batch_v * VEC + channel.to(tl.int64) * size
    if not INDEXED:
        # issue this load first: the statistics arrive while it is under way
        first = part * (out_blocks * BLOCK)
        rest = size - first
        i = tl.arange(0, BLOCK)
        ahead = tl.load(base + first + i, mask=i < rest, other=0.0, eviction_policy="evict_first")
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
    if INDEXED:
        out_width = width + 2 * pad
        to = y + plane.to(tl.int64) * ((height + 2 * pad) * out_width)
        from_residual = residual + sample.to(tl.int64) * residual_v + channel.to(tl.int64) * residual_channel
        _write_indexed(
            base, from_residual, to, height, width, pad, residual_row, residual_column, part * out_blocks, out_blocks,
            mean, factor, shift, slope, BLOCK, ACT, RESIDUAL,
        )  # fmt: skip
    else:
        from_residual = residual + sample.to(tl.int64) * residual_v * VEC + channel.to(tl.int64) * size + first
        _write(
            base + first, from_residual, y + plane.to(tl.int64) * size + first, rest, out_blocks, mean, factor, shift,
            slope, ahead, BLOCK, ACT, RESIDUAL, False,
        )  # fmt: skip
