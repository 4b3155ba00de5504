"""The transforms of Winograd's algorithm for windows of four, six and eight inputs.

F(3, 2) takes the points 0, ±1 and infinity, F(4, 3) and F(5, 2) ±2 besides, and F(6, 3) and F(4, 5) ±1/2 as well (Lavin
and Gray 2016, arXiv:1509.09308).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

from gankit_kernels.on_cpu.llvm import Code

Tile = Literal[3, 4, 5, 6]  # rows and columns of the results of a tile
TILES: dict[int, tuple[Tile, ...]] = {2: (3, 5), 3: (4, 6), 5: (4,)}  # by rows and columns of the kernels

_POINTS = (0.0, 1.0, -1.0, 2.0, -2.0, 0.5, -0.5)  # and infinity; a window takes one less than it reads


def window(tile: Tile, side: int) -> int:
    """Return how many inputs a tile reads in a row.

    Args:
        tile: number of results in a row.
        side: number of weights in a row.
    """
    return tile + side - 1


def weights(tile: Tile, side: int) -> list[list[float]]:
    """Return G of the paper, which multiplies a column of weights.

    Args:
        tile: number of results in a row.
        side: number of weights in a row.
    """
    points = _POINTS[: window(tile, side) - 1]
    rows = [
        [point**power / math.prod(point - other for other in points if other != point) for power in range(side)]
        for point in points
    ]
    return [*rows, [0.0] * (side - 1) + [1.0]]


def forward(code: Code, x: Sequence[Any]) -> list[Any]:
    """Multiply four, six or eight vectors by Bᵀ of the paper."""
    builder, same, fma = code.builder, code.same, code.multiply_add
    if len(x) == 4:
        return [
            *(builder.fsub(x[2], x[0]), builder.fadd(x[2], x[1])),
            *(builder.fsub(x[2], x[1]), builder.fsub(x[3], x[1])),
        ]
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


def backward(code: Code, m: Sequence[Any], tile: Tile) -> list[Any]:
    """Multiply four, six or eight vectors by Aᵀ of the paper, to ``tile`` of them."""
    builder, same, fma = code.builder, code.same, code.multiply_add
    sums = [builder.fadd(m[index], m[index + 1]) for index in range(1, len(m) - 1, 2)]
    differences = [builder.fsub(m[index], m[index + 1]) for index in range(1, len(m) - 1, 2)]
    results = []
    for power in range(tile):
        terms = differences if power % 2 else sums
        result = builder.fadd(m[0], terms[0]) if power == 0 else terms[0]
        for term, point in zip(terms[1:], (2, 0.5), strict=False):
            result = fma(same(point**power), term, result)
        results.append(builder.fadd(result, m[-1]) if power == tile - 1 else result)
    return results
