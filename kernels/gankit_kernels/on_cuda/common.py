"""Parts shared by the kernels: activation, merged statistics, reflected indices.

The kernels convert every value to float32 as they load it: sums need the precision, and Triton's interpreter has no
bfloat16 arithmetic.
"""

from __future__ import annotations

import triton
import triton.language as tl

# The integer arguments of the kernels, all but one stride in ``blend``. By default Triton compiles a kernel again where
# an integer becomes 1 or a multiple of 16, so that each new image size could cost a compilation. What a kernel must
# know at compile time it takes as a constexpr instead: the alignment of rows as VEC, an absent border as INDEXED.
INTEGERS = (
    "batch", "batch_v", "blocks", "channel_blocks", "channel_step", "channel_stride", "channels", "channels_v",
    "chunk", "chunk_blocks", "column_blocks", "columns", "count_v", "first_v", "height", "left", "out_blocks",
    "out_parts", "out_size", "out_width", "pad", "parts", "pixel_blocks", "pixel_stride", "pixel_v", "planes",
    "residual_channel", "residual_column", "residual_row", "residual_v", "row_blocks", "row_stride", "row_v",
    "run_blocks", "run_v", "size", "size_v", "sub_step", "tile_stride", "top", "width", "width0_v", "width1_v",
    "width2_v", "width3_v", "width_v",
)  # fmt: skip


@triton.jit
def activate(x, slope, ACT: tl.constexpr):
    """Apply an activation to float32 values.

    Comparisons are used because ``tl.maximum`` would turn NaN into a valid pixel.
    """
    if ACT == "relu":
        x = tl.where(x < 0.0, 0.0, x)
    elif ACT == "leaky_relu":
        x = tl.where(x < 0.0, x * slope, x)
    elif ACT == "tanh":
        # tl.math has no tanh, and libdevice's does not run in the interpreter
        e = tl.exp(-2.0 * tl.abs(x))  # the exponent is never positive, so this cannot overflow
        t = (1.0 - e) / (1.0 + e)
        x = tl.where(x < 0.0, -t, t)
    return x


@triton.jit
def finish(value, shift, slope, added, scale, ACT: tl.constexpr, BEFORE: tl.constexpr):
    """Apply the parts in order to float32 values; ``BEFORE`` adds the residual before the activation."""
    value += shift
    if BEFORE:
        return activate(value * scale + added, slope, ACT)
    return activate(value, slope, ACT) * scale + added


@triton.jit
def four_more(mean, squares, turns, a, b, c, d):
    """Add four values to the running statistics of every lane.

    The four are centred on their own mean and merged as one part (Chan et al. 1983), which takes half as many
    instructions as four of Welford's steps.

    Args:
        mean: Mean of the values that the lane has seen, float32; 0 before the first.
        squares: Sum of their squared deviations, float32.
        turns: Number of fours that the lane has seen, int32.
        a: First value, float32.
        b: Second value.
        c: Third value.
        d: Fourth value.

    Returns:
        The updated mean and sum of squared deviations.
    """
    centre = ((a + b) + (c + d)) * 0.25
    a -= centre
    b -= centre
    c -= centre
    d -= centre
    weight = 1.0 / tl.cast(turns + 1, tl.float32)
    step = centre - mean
    # The first turn's factor of 0 must come before the square of step, which could be infinite.
    squares += ((a * a + b * b) + (c * c + d * d)) + step * (step * (4.0 * tl.cast(turns, tl.float32) * weight))
    return mean + step * weight, squares


@triton.jit
def two_more(mean, squares, pairs, a, b):
    """Add two values, as :func:`four_more` does, where registers are scarce; ``pairs`` counts the pairs seen so far."""
    weight = 1.0 / tl.cast(pairs + 1, tl.float32)
    apart = a - b
    step = (a + b) * 0.5 - mean
    squares += apart * (0.5 * apart) + step * (step * (2.0 * tl.cast(pairs, tl.float32) * weight))
    return mean + step * weight, squares


@triton.jit
def one_more(mean, squares, seen, value, valid):
    """Add one value to the statistics of every valid lane by Welford's step (1962)."""
    apart = tl.where(valid, value - mean, 0.0)
    mean += apart * (1.0 / tl.cast(seen + 1, tl.float32))
    return mean, squares + apart * (value - mean)


@triton.jit
def merge(count, mean, squares):
    """Merge the statistics of parts along axis 0 (Chan et al. 1983); empty parts are ignored.

    The mean of the means is computed twice, the second time from deviations (Björck's correction). The mean of a
    constant plane is then exactly its value, and its variance exactly 0, however large the value.

    Args:
        count: Number of values in each part, float32.
        mean: Mean of each part; any finite number where the count is 0.
        squares: Sum of squared deviations of each part.

    Returns:
        Count, mean and sum of squared deviations of all values.
    """
    total = tl.sum(count, 0)
    first = tl.sum(count * mean, 0) / total
    apart = mean - first
    step = tl.sum(count * apart, 0) / total
    rest = tl.sum(squares + count * apart * apart, 0) - total * step * step
    return total, first + step, tl.where(rest < 0.0, 0.0, rest)


@triton.jit
def part_counts(size, chunk, parts, PARTS: tl.constexpr):
    """Number of values in each part when ``size`` values are cut into chunks, (PARTS,) float32; 0 beyond ``parts``."""
    index = tl.arange(0, PARTS)
    rest = size - index.to(tl.int64) * chunk
    rest = tl.minimum(tl.maximum(rest, 0), chunk)
    return tl.where(index < parts, rest, 0).to(tl.float32)


@triton.jit
def reflect(index, size):
    """Map positions in a row with a border, counted from its first inner value, to indices of ``size`` values."""
    index = tl.abs(index)
    return size - 1 - tl.abs(size - 1 - index)
