"""How much each of several overlapping tiles counts at every position."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor

MOST_OVERLAP = 4  # most tiles over a pixel along one axis


def weights(starts: Sequence[int], side: int, size: int, ramp: int) -> Tensor:
    """Weight of every pixel of every tile along one axis, (tiles, side) float32; at each position they sum to 1."""
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
    """List the tiles over every position along one axis.

    Returns:
        Index of the tile, (rows, size) int32; index of the pixel inside it, (rows, size) int32; its weight, (rows,
        size) float32, which is 0 where there are fewer tiles. ``rows`` is the largest number of overlapping tiles.
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
