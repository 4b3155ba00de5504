"""Overlapping tiles blended into one picture: every pixel is gathered from its tiles and written once.

Adding weighted tiles to a canvas and dividing it afterwards reads and writes the canvas for every tile; atomic
additions would make the result depend on their order. The weights are the same along every row and every column of
tiles, so that a pixel's are two short lists, normalised beforehand.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from gankit_kernels.library import exporting, has_triton, register
from gankit_kernels.tensors import ON_CUDA, check_picture, computed_in

MOST_OVERLAP = 4  # tiles over a pixel along one axis


def blend_tiles(tiles: Tensor, tops: Sequence[int], lefts: Sequence[int], size: tuple[int, int], ramp: int) -> Tensor:
    """The weighted mean of the tiles over every pixel.

    A tile's weight rises from its edges inward over ``ramp`` pixels (1, 2, … ramp, as pixels of its height, times the
    same of its width) and is level between.

    Args:
        tiles: (rows·columns, C, h, w) float32, float16, bfloat16 (or float64), row by row.
        tops: first row of the picture that each row of tiles covers, rising.
        lefts: first column that each column of tiles covers, rising.
        size: (H, W) of the picture; the tiles cover it and do not stick out. No pixel has more than 4 tiles along an
            axis.
        ramp: from 1 (a plain mean) up.

    Returns:
        (C, H, W) in the dtype of ``tiles``, dense; sums are float32, always in the order of the tiles.

    Raises:
        ValueError: a grid that does not fit.
        TypeError: another dtype.
    """
    check_picture("tiles", tiles)
    height, width = size
    if tiles.shape[0] != len(tops) * len(lefts):
        raise ValueError(f"{len(tops)} rows and {len(lefts)} columns of tiles are not {tiles.shape[0]} tiles")
    if ramp < 1:
        raise ValueError(f"ramp must be 1 or more, not {ramp}")
    _check_axis("tops", tops, tiles.shape[2], height)
    _check_axis("lefts", lefts, tiles.shape[3], width)
    if exporting():
        return composite(tiles, tops, lefts, height, width, ramp)
    result: Tensor = _OPERATION(tiles, tops, lefts, height, width, ramp)
    return result


def _check_axis(name: str, starts: Sequence[int], side: int, size: int) -> None:
    if not starts or starts[0] != 0 or starts[-1] + side != size:
        raise ValueError(f"{name} must begin with 0 and end with {size - side}: tiles cover the picture exactly")
    for one, two in itertools.pairwise(starts):
        if not one < two <= one + side:
            raise ValueError(f"{name} must rise, by no more than a tile's {side} pixels: {one} and then {two}")
    for one, two in zip(starts, starts[MOST_OVERLAP:], strict=False):
        if two < one + side:
            raise ValueError(f"{name}: more than {MOST_OVERLAP} tiles over one pixel")


def weights(starts: Sequence[int], side: int, size: int, ramp: int) -> Tensor:
    """(tiles, side) float32: of every pixel of every tile along one axis; those over one place sum to 1."""
    one = torch.arange(side, dtype=torch.float64)
    one = torch.minimum(torch.minimum(one + 1, side - one), torch.tensor(float(ramp), dtype=torch.float64))
    total = torch.zeros(size, dtype=torch.float64)
    for start in starts:
        total[start : start + side] += one
    return torch.stack([one / total[start : start + side] for start in starts]).float()


@lru_cache(maxsize=32)
def table(
    starts: tuple[int, ...], side: int, size: int, ramp: int, device: torch.device
) -> tuple[Tensor, Tensor, Tensor]:
    """What every place along one axis is made of. As many rows as tiles lie over one place at most.

    Returns:
        Tiles (rows, size) int32, pixels inside them (rows, size) int32, and weights (rows, size) float32, 0 for none.
    """
    tiles = torch.zeros(MOST_OVERLAP, size, dtype=torch.int32)
    inside, weight = torch.zeros_like(tiles), torch.zeros(MOST_OVERLAP, size)
    used = torch.zeros(size, dtype=torch.long)
    for index, (start, line) in enumerate(zip(starts, weights(starts, side, size, ramp), strict=True)):
        places = torch.arange(start, start + side)
        slots = used[places]
        tiles[slots, places] = index
        inside[slots, places] = torch.arange(side, dtype=torch.int32)
        weight[slots, places] = line
        used[places] += 1
    rows = int(used.max())
    return tiles[:rows].to(device), inside[:rows].to(device), weight[:rows].to(device)


def composite(tiles: Tensor, tops: Sequence[int], lefts: Sequence[int], height: int, width: int, ramp: int) -> Tensor:
    """The same in torch's own operations: what is exported, and what the kernel is measured against."""
    dtype = computed_in(tiles)
    _, channels, tile_height, tile_width = tiles.shape
    rows = weights(tops, tile_height, height, ramp).to(tiles.device, dtype)
    columns = weights(lefts, tile_width, width, ramp).to(tiles.device, dtype)
    result = torch.zeros((channels, height, width), dtype=dtype, device=tiles.device)
    for number, tile in enumerate(tiles.to(dtype)):
        row, column = divmod(number, len(lefts))
        top, left = tops[row], lefts[column]
        part = result[:, top : top + tile_height, left : left + tile_width]
        part += tile * (rows[row][:, None] * columns[column])
    return result.to(tiles.dtype)


def _on_cuda(tiles: Tensor, *rest: Any) -> Tensor:
    if not has_triton() or tiles.dtype not in ON_CUDA:
        return composite(tiles, *rest)
    from gankit_kernels.on_cuda.blend import launch

    return launch(tiles, *rest)


def _shapes(tiles: Tensor, tops: Sequence[int], lefts: Sequence[int], height: int, width: int, ramp: int) -> Tensor:
    return tiles.new_empty((tiles.shape[1], height, width))


def _setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    tiles, ctx.tops, ctx.lefts, ctx.height, ctx.width, ctx.ramp = inputs
    ctx.shape, ctx.dtype = tiles.shape, tiles.dtype


def _backward(ctx: Any, gradient: Tensor) -> tuple[Any, ...]:
    """Every tile's part of the gradient, by its weights."""
    height, width = ctx.shape[2:]
    wide = gradient.to(computed_in(gradient))
    rows = weights(ctx.tops, height, ctx.height, ctx.ramp).to(wide)
    columns = weights(ctx.lefts, width, ctx.width, ctx.ramp).to(wide)
    parts = [
        wide[:, top : top + height, left : left + width] * (rows[row][:, None] * columns[column])
        for row, top in enumerate(ctx.tops)
        for column, left in enumerate(ctx.lefts)
    ]
    return torch.stack(parts).to(ctx.dtype), None, None, None, None, None


_OPERATION = register(
    "blend_tiles(Tensor tiles, int[] tops, int[] lefts, int height, int width, int ramp) -> Tensor",
    reference=composite,
    on_cuda=_on_cuda,
    shapes=_shapes,
    setup=_setup,
    backward=_backward,
)
