"""The transforms of Winograd's algorithm for four results of a kernel of three or of five weights.

F(4, 3) takes the points 0, ±1, ±2 and infinity, F(4, 5) ±1/2 besides (Lavin and Gray 2016, arXiv:1509.09308).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gankit_kernels.on_cpu.llvm import Code

TILE = 4  # rows and columns of the results of a tile

# Multiplies a column of weights; Gᵀ of the paper is its transpose. By the number of weights.
WEIGHTS = {
    3: (
        *((1 / 4, 0, 0), (-1 / 6, -1 / 6, -1 / 6), (-1 / 6, 1 / 6, -1 / 6)),
        *((1 / 24, 1 / 12, 1 / 6), (1 / 24, -1 / 12, 1 / 6), (0, 0, 1)),
    ),
    5: (
        (-1, 0, 0, 0, 0),
        *((-2 / 9, -2 / 9, -2 / 9, -2 / 9, -2 / 9), (-2 / 9, 2 / 9, -2 / 9, 2 / 9, -2 / 9)),
        *((1 / 90, 1 / 45, 2 / 45, 4 / 45, 8 / 45), (1 / 90, -1 / 45, 2 / 45, -4 / 45, 8 / 45)),
        *((32 / 45, 16 / 45, 8 / 45, 4 / 45, 2 / 45), (32 / 45, -16 / 45, 8 / 45, -4 / 45, 2 / 45)),
        (0, 0, 0, 0, 1),
    ),
}


def window(weights: int) -> int:
    """Return how many inputs a tile reads in a row."""
    return TILE + weights - 1


def forward(code: Code, x: Sequence[Any]) -> list[Any]:
    """Multiply six or eight vectors by Bᵀ of the paper."""
    builder, same, fma = code.builder, code.same, code.multiply_add
    if len(x) == 6:
        even, odd = fma(same(-4), x[2], x[4]), fma(same(-4), x[1], x[3])
        near, far = builder.fsub(x[4], x[2]), builder.fsub(x[3], x[1])
        first = fma(same(4), x[0], fma(same(-5), x[2], x[4]))
        last = fma(same(4), x[1], fma(same(-5), x[3], x[5]))
        middle = [builder.fadd(even, odd), builder.fsub(even, odd), fma(same(2), far, near), fma(same(-2), far, near)]
        return [first, *middle, last]
    first = fma(same(5.25), builder.fsub(x[2], x[4]), builder.fsub(x[6], x[0]))
    last = fma(same(5.25), builder.fsub(x[3], x[5]), builder.fsub(x[7], x[1]))
    pairs = (
        (fma(same(-4.25), x[4], builder.fadd(x[2], x[6])), fma(same(-4.25), x[3], builder.fadd(x[1], x[5])), 1),
        (fma(same(0.25), x[2], fma(same(-1.25), x[4], x[6])), fma(same(0.25), x[1], fma(same(-1.25), x[3], x[5])), 2),
        (fma(same(4), x[2], fma(same(-5), x[4], x[6])), fma(same(4), x[1], fma(same(-5), x[3], x[5])), 0.5),
    )
    middle = [fma(same(sign * point), odd, even) for even, odd, point in pairs for sign in (1, -1)]
    return [first, *middle, last]


def backward(code: Code, m: Sequence[Any]) -> list[Any]:
    """Multiply six or eight vectors by Aᵀ of the paper."""
    builder, same, fma = code.builder, code.same, code.multiply_add
    sums = [builder.fadd(m[index], m[index + 1]) for index in range(1, len(m) - 1, 2)]
    differences = [builder.fsub(m[index], m[index + 1]) for index in range(1, len(m) - 1, 2)]
    results = [m[0], differences[0], sums[0], builder.fadd(differences[0], m[-1])]
    for index, point in zip(range(1, len(sums)), (2, 0.5), strict=False):
        results = [
            fma(same(point**power), (differences if power % 2 else sums)[index], result)
            for power, result in enumerate(results)
        ]
    results[0] = builder.fadd(results[0], sums[0])
    return results
