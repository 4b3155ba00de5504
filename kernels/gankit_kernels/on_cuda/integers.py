"""Kernels that convert between integer pixels and floating-point values.

They are launched without fused multiply-add, so that every step rounds as torch's does.
"""

from __future__ import annotations

import triton
import triton.language as tl

from gankit_kernels.on_cuda.common import INTEGERS

_HALF_EVEN = tl.constexpr(12582912.0)  # 1.5 · 2²³: adding and subtracting it rounds numbers below 2²² half to even


@triton.jit
def _quantise(value, low, scale, full):
    """Convert float32 values to int32, clamped first because the cast of a value out of range is undefined."""
    scaled = (value - low) * scale
    scaled = tl.where(scaled < 0.0, 0.0, tl.where(scaled > full, full, scaled))
    return ((scaled + _HALF_EVEN) - _HALF_EVEN).to(tl.int32)


@triton.jit(do_not_specialize=INTEGERS)
def values_alike(x, y, count_v, low, scale, VEC: tl.constexpr, BLOCK: tl.constexpr):
    """Convert count_v·VEC pixels to values in the same order (channels_last)."""
    count = tl.cast(count_v, tl.int64) * VEC
    i = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    value = tl.load(x + i, mask=i < count, other=0).to(tl.float32) * scale + low
    tl.store(y + i, value.to(y.dtype.element_ty), mask=i < count)


@triton.jit(do_not_specialize=INTEGERS)
def values_planes(x, y, size_v, blocks, low, scale, C: tl.constexpr, VEC: tl.constexpr, BLOCK: tl.constexpr):
    """Convert pixels of C channels to planes."""
    size = size_v * VEC
    sample = tl.program_id(0) // blocks
    p = (tl.program_id(0) - sample * blocks) * BLOCK + tl.arange(0, BLOCK)
    first = sample.to(tl.int64) * size * C
    for c in tl.static_range(C):
        value = tl.load(x + first + p.to(tl.int64) * C + c, mask=p < size, other=0).to(tl.float32) * scale + low
        tl.store(y + first + tl.cast(size, tl.int64) * c + p, value.to(y.dtype.element_ty), mask=p < size)


@triton.jit
def _four(a, b, c, d, low, scale, dtype: tl.constexpr):
    """One channel's bytes of four pixels, as float values in the order of the pixels."""
    even = tl.interleave((a & 255).to(tl.float32), (c & 255).to(tl.float32))
    odd = tl.interleave((b & 255).to(tl.float32), (d & 255).to(tl.float32))
    return (tl.interleave(even, odd) * scale + low).to(dtype)


@triton.jit(do_not_specialize=INTEGERS)
def values_words(x, y, size_v, blocks, low, scale, VEC: tl.constexpr, BLOCK: tl.constexpr):
    """Convert 8-bit RGB to planes, four pixels (three 32-bit words of ``x``) at a time; VEC is a multiple of 4."""
    size = size_v * VEC
    quarter = size_v * (VEC // 4)
    sample = tl.program_id(0) // blocks
    block = tl.program_id(0) - sample * blocks
    g = block * BLOCK + tl.arange(0, BLOCK)
    source = x + sample.to(tl.int64) * quarter * 3 + g.to(tl.int64) * 3
    w0 = tl.load(source, mask=g < quarter, other=0)
    w1 = tl.load(source + 1, mask=g < quarter, other=0)
    w2 = tl.load(source + 2, mask=g < quarter, other=0)
    p = block * (BLOCK * 4) + tl.arange(0, BLOCK * 4)
    to = y + sample.to(tl.int64) * size * 3 + p
    plane = tl.cast(size, tl.int64)
    mask = p < size
    # little endian: w0 = r0 g0 b0 r1, w1 = g1 b1 r2 g2, w2 = b2 r3 g3 b3, lowest byte first
    tl.store(to, _four(w0, w0 >> 24, w1 >> 16, w2 >> 8, low, scale, y.dtype.element_ty), mask=mask)
    tl.store(to + plane, _four(w0 >> 8, w1, w1 >> 24, w2 >> 16, low, scale, y.dtype.element_ty), mask=mask)
    tl.store(to + 2 * plane, _four(w0 >> 16, w1 >> 8, w2, w2 >> 24, low, scale, y.dtype.element_ty), mask=mask)


@triton.jit(do_not_specialize=INTEGERS)
def pixels_alike(x, y, count_v, low, scale, full, VEC: tl.constexpr, BLOCK: tl.constexpr):
    """Convert count_v·VEC values to pixels in the same order (channels_last)."""
    count = tl.cast(count_v, tl.int64) * VEC
    i = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    value = tl.load(x + i, mask=i < count, other=0.0).to(tl.float32)
    tl.store(y + i, _quantise(value, low, scale, full).to(y.dtype.element_ty), mask=i < count)


@triton.jit(do_not_specialize=INTEGERS)
def pixels_planes(x, y, size_v, blocks, low, scale, full, C: tl.constexpr, VEC: tl.constexpr, BLOCK: tl.constexpr):
    """Convert planes to pixels of C channels."""
    size = size_v * VEC
    sample = tl.program_id(0) // blocks
    p = (tl.program_id(0) - sample * blocks) * BLOCK + tl.arange(0, BLOCK)
    first = sample.to(tl.int64) * size * C
    for c in tl.static_range(C):
        value = tl.load(x + first + tl.cast(size, tl.int64) * c + p, mask=p < size, other=0.0).to(tl.float32)
        result = _quantise(value, low, scale, full).to(y.dtype.element_ty)
        tl.store(y + first + p.to(tl.int64) * C + c, result, mask=p < size)


@triton.jit
def _parted(x, at, mask, low, scale, full, BLOCK: tl.constexpr):
    """Quantise 4·BLOCK values of a plane and split them by position within each group of four pixels."""
    number = _quantise(tl.load(x + at, mask=mask, other=0.0).to(tl.float32), low, scale, full)
    even, odd = tl.split(tl.reshape(number, (BLOCK * 2, 2)))
    first, third = tl.split(tl.reshape(even, (BLOCK, 2)))
    second, fourth = tl.split(tl.reshape(odd, (BLOCK, 2)))
    return first, second, third, fourth


@triton.jit(do_not_specialize=INTEGERS)
def pixels_words(x, y, size_v, blocks, low, scale, full, VEC: tl.constexpr, BLOCK: tl.constexpr):
    """Convert planes to 8-bit RGB, four pixels (three 32-bit words of ``y``) at a time; VEC is a multiple of 4."""
    size = size_v * VEC
    quarter = size_v * (VEC // 4)
    sample = tl.program_id(0) // blocks
    block = tl.program_id(0) - sample * blocks
    p = block * (BLOCK * 4) + tl.arange(0, BLOCK * 4)
    at = sample.to(tl.int64) * size * 3 + p
    plane = tl.cast(size, tl.int64)
    r0, r1, r2, r3 = _parted(x, at, p < size, low, scale, full, BLOCK)
    g0, g1, g2, g3 = _parted(x, at + plane, p < size, low, scale, full, BLOCK)
    b0, b1, b2, b3 = _parted(x, at + 2 * plane, p < size, low, scale, full, BLOCK)
    g = block * BLOCK + tl.arange(0, BLOCK)
    to = y + sample.to(tl.int64) * quarter * 3 + g.to(tl.int64) * 3
    tl.store(to, r0 | (g0 << 8) | (b0 << 16) | (r1 << 24), mask=g < quarter)
    tl.store(to + 1, g1 | (b1 << 8) | (r2 << 16) | (g2 << 24), mask=g < quarter)
    tl.store(to + 2, b2 | (r3 << 8) | (g3 << 16) | (b3 << 24), mask=g < quarter)
