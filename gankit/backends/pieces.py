"""An image that is cut into tiles, as an engine that stitches them on its device sees it. Imports no torch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Piece:
    """One tile, in input pixels.

    Attributes:
        top: first row of the image that the tile reads.
        left: first column.
        rows: first row of the image that is kept of its result, and the row behind the last one.
        columns: the same for columns.
    """

    top: int
    left: int
    rows: tuple[int, int]
    columns: tuple[int, int]


@dataclass(frozen=True)
class Pieces:
    """How an image is cut, and how its tiles share calls.

    Attributes:
        pieces: the tiles, row by row. The parts that are kept cover the image exactly once.
        tile: height and width of every tile in input pixels.
        scale: side of the output divided by side of the input.
        channels: number of channels of the result.
        batch: tiles per call.
        progress: called with the fraction that is done, above 0 and up to 1.
    """

    pieces: tuple[Piece, ...]
    tile: tuple[int, int]
    scale: int
    channels: int
    batch: int
    progress: Callable[[float], None] | None = None


@dataclass(frozen=True)
class Move:
    """A part of the result of one of several tiles, and its place; from the first row or column to behind the last.

    Attributes:
        index: which of the tiles.
        rows: rows of the tile's result.
        columns: columns of the tile's result.
        to_rows: rows of the image's result.
        to_columns: columns of the image's result.
    """

    index: int
    rows: tuple[int, int]
    columns: tuple[int, int]
    to_rows: tuple[int, int]
    to_columns: tuple[int, int]

    @classmethod
    def of(cls, index: int, piece: Piece, scale: int) -> Move:
        """Return what is kept of a tile.

        Args:
            index: which of the tiles.
            piece: the tile.
            scale: side of the output divided by side of the input.
        """
        (top, bottom), (left, right) = piece.rows, piece.columns
        return cls(
            index,
            ((top - piece.top) * scale, (bottom - piece.top) * scale),
            ((left - piece.left) * scale, (right - piece.left) * scale),
            (top * scale, bottom * scale),
            (left * scale, right * scale),
        )

    def copy(self, tiles: Tensor, canvas: Tensor) -> None:
        """Copy the part from the tiles (N, C, h, w) to its place in the image (1, C, H, W)."""
        part = tiles[self.index, :, self.rows[0] : self.rows[1], self.columns[0] : self.columns[1]]
        canvas[0, :, self.to_rows[0] : self.to_rows[1], self.to_columns[0] : self.to_columns[1]].copy_(part)
