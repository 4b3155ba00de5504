"""InstanceNorm's kernels for channels_last, where the values of a pixel are adjacent and sums run over pixels."""

from __future__ import annotations

import triton
import triton.language as tl

from gankit_kernels.on_cuda.common import INTEGERS, activate, merge, one_more, part_counts, reflect, two_more


@triton.jit(do_not_specialize=INTEGERS)
def resident(
    x, weight, bias, residual, y,
    channels_v, size, batch_v, residual_v, channel_blocks, eps, slope,
    VEC: tl.constexpr, PIXELS: tl.constexpr, CHANNELS: tl.constexpr, ACT: tl.constexpr,
    WEIGHT: tl.constexpr, BIAS: tl.constexpr, RESIDUAL: tl.constexpr,
):  # fmt: skip
    """Normalise CHANNELS channels of an image of up to PIXELS pixels in registers, with one read and one write.

    Integers ending in ``_v`` are in units of VEC values, as in ``planes.resident``.
    """
    channels = channels_v * VEC
    sample = tl.program_id(0) // channel_blocks
    c = (tl.program_id(0) - sample * channel_blocks) * CHANNELS + tl.arange(0, CHANNELS)
    p = tl.arange(0, PIXELS)
    known = c < channels
    mask = (p < size)[:, None] & known[None, :]
    at = p[:, None] * channels + c[None, :]
    # issue both loads before the first computation
    value = tl.load(x + sample.to(tl.int64) * batch_v * VEC + at, mask=mask, other=0.0)
    if RESIDUAL:
        added = tl.load(residual + sample.to(tl.int64) * residual_v * VEC + at, mask=mask, other=0.0)
    first = tl.sum(value.to(tl.float32), 0) / size
    apart = tl.where(mask, value.to(tl.float32) - first[None, :], 0.0)
    step = tl.sum(apart, 0) / size
    variance = tl.sum(apart * apart, 0) / size - step * step
    mean = first + step
    factor = tl.math.rsqrt(tl.where(variance < 0.0, 0.0, variance) + eps)
    if WEIGHT:
        factor *= tl.load(weight + c, mask=known, other=0.0).to(tl.float32)
    result = (value.to(tl.float32) - mean[None, :]) * factor[None, :]
    if BIAS:
        result += tl.load(bias + c, mask=known, other=0.0).to(tl.float32)[None, :]
    result = activate(result, slope, ACT)
    if RESIDUAL:
        result += added.to(tl.float32)
    out = y + sample.to(tl.int64) * size * channels + at
    tl.store(out, result.to(y.dtype.element_ty), mask=mask)


@triton.jit
def _statistics(base, here, channels, c, known, PIXELS: tl.constexpr, CHANNELS: tl.constexpr):
    """Count, mean and squared deviations of the channels ``c`` of the ``here`` pixels at ``base``.

    Every lane keeps the statistics of the values that it loads, and the lanes are merged once at the end.
    """
    p = tl.arange(0, PIXELS)
    inside = p[:, None] * channels + c[None, :]
    mean = tl.zeros((PIXELS, CHANNELS), tl.float32)
    deviations = tl.zeros((PIXELS, CHANNELS), tl.float32)
    turns = here // (4 * PIXELS)
    step = PIXELS * channels
    for turn in range(0, turns):
        source = base + tl.cast(turn, tl.int64) * (4 * step) + inside
        # issue all four loads before the first is used
        one = tl.load(source, mask=known[None, :], other=0.0)
        two = tl.load(source + step, mask=known[None, :], other=0.0)
        three = tl.load(source + 2 * step, mask=known[None, :], other=0.0)
        four = tl.load(source + 3 * step, mask=known[None, :], other=0.0)
        mean, deviations = two_more(mean, deviations, 2 * turn, one.to(tl.float32), two.to(tl.float32))
        mean, deviations = two_more(mean, deviations, 2 * turn + 1, three.to(tl.float32), four.to(tl.float32))
    for k in range(turns * (4 * PIXELS), here, PIXELS):
        valid = (k + p < here)[:, None] & known[None, :]
        value = tl.load(base + tl.cast(k, tl.int64) * channels + inside, mask=valid, other=0.0).to(tl.float32)
        mean, deviations = one_more(mean, deviations, k // PIXELS, value, valid)
    count = ((here - p + (PIXELS - 1)) // PIXELS).to(tl.float32)[:, None] + tl.zeros((PIXELS, CHANNELS), tl.float32)
    return merge(count, mean, deviations)


@triton.jit(do_not_specialize=INTEGERS)
def alone(
    x, weight, bias, residual, y,
    channels_v, height, width, pad, batch_v, residual_v, residual_row, residual_column, channel_blocks, eps, slope,
    VEC: tl.constexpr, PIXELS: tl.constexpr, CHANNELS: tl.constexpr, OUT: tl.constexpr, ACT: tl.constexpr,
    WEIGHT: tl.constexpr, BIAS: tl.constexpr, RESIDUAL: tl.constexpr, INDEXED: tl.constexpr,
):  # fmt: skip
    """Normalise CHANNELS channels of an image, which the same program reads twice: forwards, then backwards.

    The second time they come out of the caches, so that memory is read once, and one launch does everything.
    Neighbouring programs process neighbouring channels of the same pixels, which are in the same lines of the caches.
    OUT is the number of pixels that are normalised at a time. The strides of ``residual`` are in units of VEC values,
    and INDEXED means what it does in ``planes.apply``.
    """
    channels = channels_v * VEC
    size = height * width
    sample = tl.program_id(0) // channel_blocks
    c = (tl.program_id(0) - sample * channel_blocks) * CHANNELS + tl.arange(0, CHANNELS)
    known = c < channels
    base = x + sample.to(tl.int64) * batch_v * VEC
    total, mean, square = _statistics(base, size, channels, c, known, PIXELS, CHANNELS)
    factor = tl.math.rsqrt(square / total + eps)
    shift = tl.zeros((CHANNELS,), tl.float32)
    if WEIGHT:
        factor *= tl.load(weight + c, mask=known, other=0.0).to(tl.float32)
    if BIAS:
        shift = tl.load(bias + c, mask=known, other=0.0).to(tl.float32)
    out_width = width + 2 * pad
    out_size = (height + 2 * pad) * out_width
    to = y + sample.to(tl.int64) * out_size * channels
    from_residual = residual + sample.to(tl.int64) * residual_v * VEC
    q = tl.arange(0, OUT)
    inside = q[:, None] * channels + c[None, :]
    blocks = (out_size + (OUT - 1)) // OUT
    for k in range(0, blocks):
        first = (blocks - 1 - k) * OUT
        o = first + q
        valid = (o < out_size)[:, None] & known[None, :]
        at = tl.cast(first, tl.int64) * channels
        if INDEXED:
            out_row = o // out_width
            h = reflect(out_row - pad, height)
            w = reflect(o - out_row * out_width - pad, width)
            source = (h * width + w).to(tl.int64) * channels
            loaded = tl.load(base + source[:, None] + c[None, :], mask=valid, other=0.0)
            if RESIDUAL:
                row = h.to(tl.int64) * residual_row * VEC + w.to(tl.int64) * residual_column * VEC
                added = tl.load(from_residual + row[:, None] + c[None, :], mask=valid, other=0.0)
        else:
            loaded = tl.load(base + at + inside, mask=valid, other=0.0, eviction_policy="evict_first")
            if RESIDUAL:
                added = tl.load(from_residual + at + inside, mask=valid, other=0.0, eviction_policy="evict_first")
        result = activate((loaded.to(tl.float32) - mean[None, :]) * factor[None, :] + shift[None, :], slope, ACT)
        if RESIDUAL:
            result += added.to(tl.float32)
        tl.store(to + at + inside, result.to(y.dtype.element_ty), mask=valid)


@triton.jit(do_not_specialize=INTEGERS)
def statistics(
    x, means, squares, channels_v, size, batch_v, channel_blocks, parts, chunk,
    VEC: tl.constexpr, PIXELS: tl.constexpr, CHANNELS: tl.constexpr,
):  # fmt: skip
    """Mean and squared deviations of ``chunk`` pixels of CHANNELS channels, as in ``planes.statistics``.

    ``means`` and ``squares`` are (N, parts, C) float32. Neighbouring programs process neighbouring channels of the same
    pixels, which are in the same pages of memory.
    """
    channels = channels_v * VEC
    rest_of = tl.program_id(0) // channel_blocks
    c = (tl.program_id(0) - rest_of * channel_blocks) * CHANNELS + tl.arange(0, CHANNELS)
    sample = rest_of // parts
    part = rest_of - sample * parts
    start = part.to(tl.int64) * chunk
    here = tl.minimum(size - start, chunk).to(tl.int32)
    known = c < channels
    base = x + sample.to(tl.int64) * batch_v * VEC + start * channels
    _, mean, square = _statistics(base, here, channels, c, known, PIXELS, CHANNELS)
    at = rest_of.to(tl.int64) * channels + c
    tl.store(means + at, mean, mask=known)
    tl.store(squares + at, square, mask=known)


@triton.jit(do_not_specialize=INTEGERS)
def combine(
    means, squares, mean, square, channels, size, chunk, parts, channel_blocks,
    PARTS: tl.constexpr, CHANNELS: tl.constexpr,
):  # fmt: skip
    """Merge the statistics of many parts, (N, parts, C), into those of planes, (N, C).

    The statistics of an image with few channels are cut into more parts than every program of ``apply`` should merge.
    """
    sample = tl.program_id(0) // channel_blocks
    c = (tl.program_id(0) - sample * channel_blocks) * CHANNELS + tl.arange(0, CHANNELS)
    s = tl.arange(0, PARTS)
    at = (sample.to(tl.int64) * parts + s)[:, None] * channels + c[None, :]
    valid = (s < parts)[:, None] & (c < channels)[None, :]
    count = part_counts(size, chunk, parts, PARTS)[:, None] + tl.zeros((PARTS, CHANNELS), tl.float32)
    _, one, other = merge(
        count, tl.load(means + at, mask=valid, other=0.0), tl.load(squares + at, mask=valid, other=0.0)
    )
    at = sample.to(tl.int64) * channels + c
    tl.store(mean + at, one, mask=c < channels)
    tl.store(square + at, other, mask=c < channels)


@triton.jit(do_not_specialize=INTEGERS)
def apply(
    x, means, squares, weight, bias, residual, y,
    channels_v, height, width, pad, batch_v, residual_v, residual_row, residual_column,
    channel_blocks, parts, chunk, out_parts, out_blocks, eps, slope,
    VEC: tl.constexpr, PIXELS: tl.constexpr, CHANNELS: tl.constexpr, PARTS: tl.constexpr, ACT: tl.constexpr,
    WEIGHT: tl.constexpr, BIAS: tl.constexpr, RESIDUAL: tl.constexpr, INDEXED: tl.constexpr, WHOLE: tl.constexpr,
):  # fmt: skip
    """Merge the statistics of the parts, then normalise ``out_blocks`` blocks of PIXELS pixels of CHANNELS channels.

    The strides of ``residual`` are in units of VEC values. INDEXED and WHOLE mean what they do in ``planes.apply``.
    """
    channels = channels_v * VEC
    size = height * width
    program = tl.num_programs(0) - 1 - tl.program_id(0)  # the last entered the caches last
    rest_of = program // channel_blocks
    c = (program - rest_of * channel_blocks) * CHANNELS + tl.arange(0, CHANNELS)
    sample = rest_of // out_parts
    part = rest_of - sample * out_parts
    known = c < channels
    base = x + sample.to(tl.int64) * batch_v * VEC
    out_width = width + 2 * pad
    out_size = (height + 2 * pad) * out_width
    first = part * (out_blocks * PIXELS)
    p = tl.arange(0, PIXELS)
    start = tl.cast(first, tl.int64) * channels
    step = PIXELS * channels
    inside = p[:, None] * channels + c[None, :]
    if not INDEXED:
        # issue this load first: the statistics arrive while it is under way
        ahead = tl.load(
            base + start + inside,
            mask=(first + p < size)[:, None] & known[None, :],
            other=0.0,
            eviction_policy="evict_first",
        )
    s = tl.arange(0, PARTS)
    if WHOLE:
        at1 = sample.to(tl.int64) * parts + s
        count = part_counts(tl.cast(size, tl.int64) * channels, chunk, parts, PARTS)
        total, mean, square = merge(
            count, tl.load(means + at1, mask=s < parts, other=0.0), tl.load(squares + at1, mask=s < parts, other=0.0)
        )
        # one pair for all channels, broadcast to the shape of one pair for each
        mean += tl.zeros((CHANNELS,), tl.float32)
        variance = square / total + tl.zeros((CHANNELS,), tl.float32)
    else:
        at2 = (sample.to(tl.int64) * parts + s)[:, None] * channels + c[None, :]
        valid2 = (s < parts)[:, None] & known[None, :]
        count2 = part_counts(size, chunk, parts, PARTS)[:, None] + tl.zeros((PARTS, CHANNELS), tl.float32)
        total, mean, square = merge(
            count2, tl.load(means + at2, mask=valid2, other=0.0), tl.load(squares + at2, mask=valid2, other=0.0)
        )
        variance = square / total
    factor = tl.math.rsqrt(variance + eps)
    shift = tl.zeros((CHANNELS,), tl.float32)
    if WEIGHT:
        factor *= tl.load(weight + c, mask=known, other=0.0).to(tl.float32)
    if BIAS:
        shift = tl.load(bias + c, mask=known, other=0.0).to(tl.float32)
    to = y + sample.to(tl.int64) * out_size * channels
    from_residual = residual + sample.to(tl.int64) * residual_v * VEC
    for k in range(0, out_blocks):
        o = first + k * PIXELS + p
        valid = (o < out_size)[:, None] & known[None, :]
        at = start + tl.cast(k, tl.int64) * step
        if INDEXED:
            out_row = o // out_width
            h = reflect(out_row - pad, height)
            w = reflect(o - out_row * out_width - pad, width)
            source = (h * width + w).to(tl.int64) * channels
            loaded = tl.load(base + source[:, None] + c[None, :], mask=valid, other=0.0)
        else:
            loaded = ahead
            ahead = tl.load(
                base + at + step + inside,
                mask=((o + PIXELS < size) & (o + PIXELS < first + out_blocks * PIXELS))[:, None] & known[None, :],
                other=0.0,
                eviction_policy="evict_first",
            )
        result = activate((loaded.to(tl.float32) - mean[None, :]) * factor[None, :] + shift[None, :], slope, ACT)
        if RESIDUAL:
            if INDEXED:
                added = h.to(tl.int64) * residual_row * VEC + w.to(tl.int64) * residual_column * VEC
                result += tl.load(
                    from_residual + added[:, None] + c[None, :], mask=valid, other=0.0, eviction_policy="evict_first"
                ).to(tl.float32)
            else:
                result += tl.load(from_residual + at + inside, mask=valid, other=0.0, eviction_policy="evict_first").to(
                    tl.float32
                )
        tl.store(to + at + inside, result.to(y.dtype.element_ty), mask=valid)
