"""Sizes of what the kernels of :mod:`gankit_kernels.on_cpu.winograd` compute at a time."""

from __future__ import annotations

from gankit_kernels.on_cpu.llvm import lanes, registers
from gankit_kernels.on_cpu.transforms import TILES, Tile, window

_FEW = 32  # input channels at a time: 200 KB of transforms of 24 tiles
_WORTH = 0.85  # larger tiles are transformed more slowly
_LOADED = 16  # tiles whose products take as long as loading their weights
_FEWEST = {2: 16, 3: 4, 5: 4}  # tiles, by rows and columns of the kernels
APART = 16  # float32 between two slots, so that not all of them share the few places of a cache


def panel(results: int) -> int:
    """Return how many of the output channels are computed together; they divide their number.

    Args:
        results: number of output channels, a multiple of :func:`~gankit_kernels.on_cpu.llvm.lanes`.
    """
    return next(count * lanes() for count in (4, 2, 1) if count <= _most_vectors() and results % (count * lanes()) == 0)


def rows_of(together: int) -> int:
    """Return how many tiles are multiplied together with a panel of so many output channels."""
    return _sums() // (together // lanes())


def tile_of(side: int, count: int, rows: int, columns: int) -> Tile:
    """Return how many rows and columns of results make a tile: many where that leaves much fewer products.

    Args:
        side: rows and columns of the kernel.
        count: number of images.
        rows: of the result.
        columns: of the result.
    """
    small, large = TILES[side][0], TILES[side][-1]
    # Weights of 2×2 kernels, four times as many as others, come from memory. Others stay in the cache between strips.
    loaded = _LOADED if side == 2 else 0

    def products(tile: Tile) -> int:
        return (count * -(-rows // tile) * -(-columns // tile) + loaded) * window(tile, side) ** 2

    return large if products(large) <= _WORTH * products(small) else small


def pays(side: int, count: int, rows: int, columns: int) -> bool:
    """Whether the tiles are enough to be worth loading the transformed weights, which are several times as many.

    The arguments are those of :func:`tile_of`.
    """
    small = TILES[side][0]
    return count * -(-rows // small) * -(-columns // small) >= _FEWEST[side]


def tiles_at_once(channels: int, results: int, reads: int) -> int:
    """Return how many tiles are transformed at a time: more where the weights do not stay in the cache between them.

    Args:
        channels: number of input channels.
        results: number of output channels.
        reads: rows and columns of the inputs of a tile.
    """
    if channels * results > 128 * 256:
        return 96
    return 12 if reads == 8 else 24


def channels_at_once(channels: int, results: int, side: int) -> int:
    """Return how many input channels are transformed at a time; they divide their number.

    All of them, unless few results leave the time to memory: then so many that their transforms stay in a small cache.

    Args:
        channels: number of input channels.
        results: number of output channels.
        side: rows and columns of the kernel.
    """
    if side != 5 or results > channels:
        return channels
    return next(count for count in range(min(channels, _FEW), 0, -lanes()) if channels % count == 0)


def room(reads: int, tiles: int, channels: int) -> int:
    """Return how many float32 a table (window², tiles, channels) takes, with what keeps its slots apart.

    Args:
        reads: rows and columns of the inputs of a tile.
        tiles: number of tiles.
        channels: number of channels.
    """
    return reads**2 * (tiles * channels + APART)


def _sums() -> int:
    """How many registers hold sums; the rest hold weights and an input."""
    return 24 if registers() == 32 else 12


def _most_vectors() -> int:
    return 4 if registers() == 32 and lanes() == 4 else 2
