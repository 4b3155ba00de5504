"""The kernel that blends tiles, and its launch."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from gankit_kernels.on_cuda.common import INTEGERS
from gankit_kernels.specs import BlendSpec
from gankit_kernels.tile_weights import table

_BLOCK = 1024  # columns per program


# A column stride of 1, that of planes, is compiled in: without it the kernel spills registers on sm_86 and sm_89.
@triton.jit(do_not_specialize=INTEGERS, do_not_specialize_on_alignment=("column_stride",))
def gather_tiles(
    tiles, row_tiles, row_inside, row_weights, column_tiles, column_inside, column_weights, y,
    height, width_v, columns, blocks, tile_stride, channel_stride, row_stride, column_stride,
    VEC: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Blend BLOCK pixels of one row of one channel, with up to ROWS times COLUMNS tiles over each.

    Where fewer tiles overlap, the other weights are 0 and nothing is loaded for them.
    """
    width = width_v * VEC
    line = tl.program_id(0) // blocks
    channel = line // height
    row = line - channel * height
    x = (tl.program_id(0) - line * blocks) * BLOCK + tl.arange(0, BLOCK)
    mask = x < width
    source = tiles + channel.to(tl.int64) * channel_stride
    result = tl.zeros((BLOCK,), tl.float32)
    for a in tl.static_range(ROWS):
        at_row = a * height + row
        row_weight = tl.load(row_weights + at_row)
        if row_weight > 0.0:
            tile_row = tl.load(row_tiles + at_row) * columns
            from_row = source + tl.load(row_inside + at_row).to(tl.int64) * row_stride
            for b in tl.static_range(COLUMNS):
                at = b * width + x
                weight = tl.load(column_weights + at, mask=mask, other=0.0) * row_weight
                used = weight > 0.0
                tile = tile_row + tl.load(column_tiles + at, mask=used, other=0)
                inside = tl.load(column_inside + at, mask=used, other=0)
                offset = tile.to(tl.int64) * tile_stride + inside.to(tl.int64) * column_stride
                result += weight * tl.load(from_row + offset, mask=used, other=0.0).to(tl.float32)
    tl.store(y + line.to(tl.int64) * width + x, result.to(y.dtype.element_ty), mask=mask)


def launch(tiles: Tensor, spec: BlendSpec) -> Tensor:
    """Run the kernel.

    Args:
        tiles: (rows·columns, C, h, w) of any strides.
        spec: Where the tiles lie.

    Returns:
        (C, H, W) in the dtype of ``tiles``.
    """
    y = spec.empty(tiles)
    if y.numel() == 0:
        return y
    _, channels, tile_height, tile_width = tiles.shape
    rows = table(tuple(spec.tops), tile_height, spec.height, spec.ramp, tiles.device)
    columns = table(tuple(spec.lefts), tile_width, spec.width, spec.ramp, tiles.device)
    blocks = -(-spec.width // _BLOCK)
    vec = 16 if spec.width % 16 == 0 else 1  # only two kernels to compile
    with torch.cuda.device_of(tiles):
        gather_tiles[(channels * spec.height * blocks,)](
            tiles, *rows, *columns, y, spec.height, spec.width // vec, len(spec.lefts), blocks, *tiles.stride(),
            VEC=vec, ROWS=rows[0].shape[0], COLUMNS=columns[0].shape[0], BLOCK=_BLOCK, num_warps=4,
        )  # fmt: skip
    return y
