"""InstanceNorm's kernels for channels_last: the values of a pixel lie together, sums run over pixels."""

from __future__ import annotations

import triton
import triton.language as tl

from gankit_kernels.on_cuda.common import activate, merge, part_counts, reflect


@triton.jit
def resident(
    x, weight, bias, residual, y,
    channels_v, size, batch_v, residual_v, channel_blocks, eps, slope,
    VEC: tl.constexpr, PIXELS: tl.constexpr, CHANNELS: tl.constexpr, ACT: tl.constexpr,
    WEIGHT: tl.constexpr, BIAS: tl.constexpr, RESIDUAL: tl.constexpr,
):  # fmt: skip
    """CHANNELS channels of a picture of up to PIXELS pixels in registers: one read, one write.

    Sizes ending in ``_v`` are in units of VEC values.
    """
    channels = channels_v * VEC
    sample = tl.program_id(0) // channel_blocks
    c = (tl.program_id(0) - sample * channel_blocks) * CHANNELS + tl.arange(0, CHANNELS)
    p = tl.arange(0, PIXELS)
    known = c < channels
    mask = (p < size)[:, None] & known[None, :]
    at = p[:, None] * channels + c[None, :]
    value = tl.load(x + sample.to(tl.int64) * batch_v * VEC + at, mask=mask, other=0.0)
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
        source = residual + sample.to(tl.int64) * residual_v * VEC + at
        result += tl.load(source, mask=mask, other=0.0).to(tl.float32)
    out = y + sample.to(tl.int64) * size * channels + at
    tl.store(out, result.to(y.dtype.element_ty), mask=mask)


@triton.jit
def statistics(
    x, means, squares, channels_v, size, batch_v, channel_blocks, parts, chunk,
    VEC: tl.constexpr, PIXELS: tl.constexpr, CHANNELS: tl.constexpr,
):  # fmt: skip
    """Mean and squared deviations of ``chunk`` pixels of CHANNELS channels, as in ``planes.statistics``.

    ``means`` and ``squares`` are (N, parts, C) float32. Neighbouring programs take neighbouring channels of the same
    pixels, which share their pages of memory.
    """
    channels = channels_v * VEC
    rest_of = tl.program_id(0) // channel_blocks
    c = (tl.program_id(0) - rest_of * channel_blocks) * CHANNELS + tl.arange(0, CHANNELS)
    sample = rest_of // parts
    part = rest_of - sample * parts
    start = part.to(tl.int64) * chunk
    here = tl.minimum(size - start, chunk).to(tl.int32)
    known = c < channels
    p = tl.arange(0, PIXELS)
    base = x + sample.to(tl.int64) * batch_v * VEC + start * channels
    inside = p[:, None] * channels + c[None, :]
    mean = tl.zeros((PIXELS, CHANNELS), tl.float32)
    square = tl.zeros((PIXELS, CHANNELS), tl.float32)
    for k in range(0, here, PIXELS):
        valid = (k + p < here)[:, None] & known[None, :]
        value = tl.load(base + tl.cast(k, tl.int64) * channels + inside, mask=valid, other=0.0).to(tl.float32)
        apart = tl.where(valid, value - mean, 0.0)
        mean += apart * (1.0 / tl.cast(k // PIXELS + 1, tl.float32))
        square += apart * (value - mean)
    count = ((here - p + (PIXELS - 1)) // PIXELS).to(tl.float32)[:, None] + tl.zeros((PIXELS, CHANNELS), tl.float32)
    _, mean, square = merge(count, mean, square)
    at = rest_of.to(tl.int64) * channels + c
    tl.store(means + at, mean, mask=known)
    tl.store(squares + at, square, mask=known)


@triton.jit
def apply(
    x, means, squares, weight, bias, residual, y,
    channels_v, height, width, pad, batch_v, residual_v, residual_row, residual_column,
    channel_blocks, parts, chunk, out_parts, out_blocks, eps, slope,
    VEC: tl.constexpr, PIXELS: tl.constexpr, CHANNELS: tl.constexpr, PARTS: tl.constexpr, ACT: tl.constexpr,
    WEIGHT: tl.constexpr, BIAS: tl.constexpr, RESIDUAL: tl.constexpr, INDEXED: tl.constexpr, WHOLE: tl.constexpr,
):  # fmt: skip
    """Merge the parts' statistics, then normalise ``out_blocks`` blocks of PIXELS pixels of CHANNELS channels.

    The strides of ``residual`` are in units of VEC values. INDEXED and WHOLE are those of ``planes.apply``.
    """
    channels = channels_v * VEC
    size = height * width
    rest_of = tl.program_id(0) // channel_blocks
    c = (tl.program_id(0) - rest_of * channel_blocks) * CHANNELS + tl.arange(0, CHANNELS)
    sample = rest_of // out_parts
    part = rest_of - sample * out_parts
    known = c < channels
    s = tl.arange(0, PARTS)
    if WHOLE:
        at = sample.to(tl.int64) * parts + s
        count = part_counts(tl.cast(size, tl.int64) * channels, chunk, parts, PARTS)
        total, mean, square = merge(
            count, tl.load(means + at, mask=s < parts, other=0.0), tl.load(squares + at, mask=s < parts, other=0.0)
        )
        # one pair for all channels, as wide as one for each
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
    base = x + sample.to(tl.int64) * batch_v * VEC
    out_width = width + 2 * pad
    out_size = (height + 2 * pad) * out_width
    to = y + sample.to(tl.int64) * out_size * channels
    from_residual = residual + sample.to(tl.int64) * residual_v * VEC
    first = part * (out_blocks * PIXELS)
    p = tl.arange(0, PIXELS)
    for k in range(0, out_blocks):
        o = first + k * PIXELS + p
        valid = (o < out_size)[:, None] & known[None, :]
        if INDEXED:
            out_row = o // out_width
            h = reflect(out_row - pad, height)
            w = reflect(o - out_row * out_width - pad, width)
            source = (h * width + w).to(tl.int64) * channels
            added = h.to(tl.int64) * residual_row * VEC + w.to(tl.int64) * residual_column * VEC
        else:
            source = o.to(tl.int64) * channels
            added = source
        value = tl.load(base + source[:, None] + c[None, :], mask=valid, other=0.0).to(tl.float32)
        result = activate((value - mean[None, :]) * factor[None, :] + shift[None, :], slope, ACT)
        if RESIDUAL:
            result += tl.load(from_residual + added[:, None] + c[None, :], mask=valid, other=0.0).to(tl.float32)
        out = to + (o.to(tl.int64) * channels)[:, None] + c[None, :]
        tl.store(out, result.to(y.dtype.element_ty), mask=valid)
