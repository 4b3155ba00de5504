"""What the kernels share: activation, merged statistics, reflected indices.

Everything is upcast to float32 as it is loaded: Triton's interpreter has no bfloat16 arithmetic, and sums need it.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def activate(x, slope, ACT: tl.constexpr):
    """The activation of float32 values. Comparisons, not ``tl.maximum``, which would turn NaN into a valid pixel."""
    if ACT == "relu":
        x = tl.where(x < 0.0, 0.0, x)
    elif ACT == "leaky_relu":
        x = tl.where(x < 0.0, x * slope, x)
    elif ACT == "tanh":
        # tl.math has no tanh, and libdevice's does not run in the interpreter
        e = tl.exp(-2.0 * tl.abs(x))  # of a negative number: it cannot overflow
        t = (1.0 - e) / (1.0 + e)
        x = tl.where(x < 0.0, -t, t)
    return x


@triton.jit
def four_more(mean, squares, turns, a, b, c, d):
    """Take four more values of every lane into its statistics.

    Centred among themselves they are merged as a part (Chan et al. 1983), which takes half of the instructions of four
    of Welford's steps.

    Args:
        mean: of the values that a lane has seen, float32; 0 before the first.
        squares: their sum of squared deviations.
        turns: how often it has seen four, int32.
        a: the first of them, float32.
        b: the second.
        c: the third.
        d: the fourth.

    Returns:
        Mean and sum of squared deviations with them.
    """
    centre = ((a + b) + (c + d)) * 0.25
    a -= centre
    b -= centre
    c -= centre
    d -= centre
    weight = 1.0 / tl.cast(turns + 1, tl.float32)
    step = centre - mean
    # step is multiplied by the 0 of the first turn before it is squared: its square could be infinite
    squares += ((a * a + b * b) + (c * c + d * d)) + step * (step * (4.0 * tl.cast(turns, tl.float32) * weight))
    return mean + step * weight, squares


@triton.jit
def two_more(mean, squares, pairs, a, b):
    """As :func:`four_more` for two values, where registers are short; ``pairs`` is how often two were seen."""
    weight = 1.0 / tl.cast(pairs + 1, tl.float32)
    apart = a - b
    step = (a + b) * 0.5 - mean
    squares += apart * (0.5 * apart) + step * (step * (2.0 * tl.cast(pairs, tl.float32) * weight))
    return mean + step * weight, squares


@triton.jit
def one_more(mean, squares, seen, value, valid):
    """Take one more value of every valid lane into its statistics, by Welford's step (1962)."""
    apart = tl.where(valid, value - mean, 0.0)
    mean += apart * (1.0 / tl.cast(seen + 1, tl.float32))
    return mean, squares + apart * (value - mean)


@triton.jit
def merge(count, mean, squares):
    """Merge the statistics of parts along axis 0 (Chan et al. 1983); parts of no values do not count.

    The mean of the means is computed twice, the second time from deviations (Björck's correction): a constant plane
    then has exactly its value for mean, and no variance, however large the value.

    Args:
        count: values of each part, float32.
        mean: their mean; any finite number where the count is 0.
        squares: their sum of squared deviations.

    Returns:
        Count, mean and sum of squared deviations of all.
    """
    total = tl.sum(count, 0)
    first = tl.sum(count * mean, 0) / total
    apart = mean - first
    step = tl.sum(count * apart, 0) / total
    rest = tl.sum(squares + count * apart * apart, 0) - total * step * step
    return total, first + step, tl.where(rest < 0.0, 0.0, rest)


@triton.jit
def part_counts(size, chunk, parts, PARTS: tl.constexpr):
    """(PARTS,) float32: values of every part of ``size`` values cut to ``chunk`` each; 0 from ``parts`` on."""
    index = tl.arange(0, PARTS)
    rest = size - index.to(tl.int64) * chunk
    rest = tl.minimum(tl.maximum(rest, 0), chunk)
    return tl.where(index < parts, rest, 0).to(tl.float32)


@triton.jit
def reflect(index, size):
    """Indices into ``size`` values for those of the bordered row, counted from its first inner one."""
    index = tl.abs(index)
    return size - 1 - tl.abs(size - 1 - index)
