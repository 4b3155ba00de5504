"""Blending of overlapping tiles into one image: every pixel is gathered from its tiles and written once.

Adding weighted tiles to a canvas and dividing it at the end would read and write the canvas for every tile, and atomic
additions would make the result depend on their order. The weights are the same along every row and every column of
tiles, so that the weights of a pixel are two short lists, normalised in advance.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from gankit_kernels.library import exporting, has_triton, register
from gankit_kernels.specs import BlendSpec
from gankit_kernels.tensors import ON_CUDA, check_image, computed_in
from gankit_kernels.tile_weights import MOST_OVERLAP, weights


def blend_tiles(tiles: Tensor, tops: Sequence[int], lefts: Sequence[int], size: tuple[int, int], ramp: int) -> Tensor:
    """Compute the weighted mean of the tiles over every pixel.

    The weight of a tile is the product of a vertical and a horizontal factor. Each factor rises from the edges inward
    as 1, 2, … ``ramp`` and stays constant between.

    Args:
        tiles: (rows·columns, C, h, w) float32, float16, bfloat16 (or float64), row by row.
        tops: First row of the image that each row of tiles covers, in ascending order.
        lefts: First column of the image that each column of tiles covers, in ascending order.
        size: (H, W) of the image, which the tiles must cover exactly. At most 4 tiles may overlap along an axis.
        ramp: Number of pixels over which the weight rises; 1 gives the plain mean.

    Returns:
        (C, H, W) in the dtype of ``tiles``, dense. Sums are in float32 and always in the order of the tiles.

    Raises:
        ValueError: The grid of tiles does not fit the image.
        TypeError: The dtype is not floating point.
    """
    check_image("tiles", tiles)
    height, width = size
    if tiles.shape[0] != len(tops) * len(lefts):
        raise ValueError(f"{len(tops)} rows of {len(lefts)} tiles do not match the {tiles.shape[0]} tiles given")
    if ramp < 1:
        raise ValueError(f"ramp must be 1 or more, not {ramp}")
    _check_axis("tops", tops, tiles.shape[2], height)
    _check_axis("lefts", lefts, tiles.shape[3], width)
    spec = BlendSpec(tops, lefts, height, width, ramp)
    if exporting():
        return composite(tiles, spec)
    result: Tensor = _OPERATION(tiles, **vars(spec))
    return result


def _check_axis(name: str, starts: Sequence[int], side: int, size: int) -> None:
    if not starts or starts[0] != 0 or starts[-1] + side != size:
        raise ValueError(f"{name} must begin with 0 and end with {size - side}, so that the tiles cover the image")
    for one, two in itertools.pairwise(starts):
        if not one < two <= one + side:
            raise ValueError(f"{name} must rise by 1 to {side} pixels, a tile's side, but {two} follows {one}")
    for one, two in zip(starts, starts[MOST_OVERLAP:], strict=False):
        if two < one + side:
            raise ValueError(f"{name} must not lay more than {MOST_OVERLAP} tiles over one pixel")


def composite(tiles: Tensor, spec: BlendSpec) -> Tensor:
    """The same in torch's own operations: what an export contains, and the reference for the kernel."""
    dtype = computed_in(tiles)
    _, channels, tile_height, tile_width = tiles.shape
    rows = weights(spec.tops, tile_height, spec.height, spec.ramp).to(tiles.device, dtype)
    columns = weights(spec.lefts, tile_width, spec.width, spec.ramp).to(tiles.device, dtype)
    result = torch.zeros((channels, spec.height, spec.width), dtype=dtype, device=tiles.device)
    for number, tile in enumerate(tiles.to(dtype)):
        row, column = divmod(number, len(spec.lefts))
        top, left = spec.tops[row], spec.lefts[column]
        part = result[:, top : top + tile_height, left : left + tile_width]
        part += tile * (rows[row][:, None] * columns[column])
    return result.to(tiles.dtype)


def _on_cuda(tiles: Tensor, spec: BlendSpec) -> Tensor:
    if not has_triton() or tiles.dtype not in ON_CUDA:
        return composite(tiles, spec)
    from gankit_kernels.on_cuda.blend import launch

    return launch(tiles, spec)


def _setup(ctx: Any, tensors: tuple[Any, ...], spec: BlendSpec) -> None:
    (tiles,) = tensors
    ctx.spec, ctx.shape, ctx.dtype = spec, tiles.shape, tiles.dtype


def _backward(ctx: Any, gradient: Tensor) -> Tensor:
    """The share of the gradient that belongs to each tile, by its weights."""
    spec: BlendSpec = ctx.spec
    height, width = ctx.shape[2:]
    wide = gradient.to(computed_in(gradient))
    rows = weights(spec.tops, height, spec.height, spec.ramp).to(wide)
    columns = weights(spec.lefts, width, spec.width, spec.ramp).to(wide)
    parts = [
        wide[:, top : top + height, left : left + width] * (rows[row][:, None] * columns[column])
        for row, top in enumerate(spec.tops)
        for column, left in enumerate(spec.lefts)
    ]
    result: Tensor = torch.stack(parts).to(ctx.dtype)
    return result


_OPERATION = register(
    "blend_tiles(Tensor tiles, *, int[] tops, int[] lefts, int height, int width, int ramp) -> Tensor",
    BlendSpec,
    reference=composite,
    on_cuda=_on_cuda,
    empty=lambda tiles, spec: spec.empty(tiles),
    setup=_setup,
    backward=_backward,
)
