"""Exact tiling: the stitched result is the one of the whole image, up to the rounding of the arithmetic.

Tiles lie inside the image and share its borders, so that the network's own zero padding is seen only where the
image really ends. Where a cut is made, ``halo`` pixels on either side are computed and thrown away; the halo is the
generator's receptive field, so what is kept depends on no pixel outside its tile. All tiles of an image have one
shape: one engine, equal batches.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from gankit.backends.base import Engine
from gankit.errors import ParityError, UsageError


@dataclass(frozen=True)
class Span:
    """One axis of a tile, in input pixels: it reads [start, start + size) and keeps [keep, stop)."""

    start: int
    keep: int
    stop: int


@dataclass(frozen=True)
class Box:
    """One tile: what it reads and keeps, down and across."""

    down: Span
    across: Span


@dataclass(frozen=True)
class Plan:
    """How an image is cut.

    Attributes:
        height: of the image, in input pixels.
        width: of the image.
        tile: height and width of every tile.
        boxes: the tiles, row by row; the kept parts cover the image once.
    """

    height: int
    width: int
    tile: tuple[int, int]
    boxes: tuple[Box, ...]

    @property
    def waste(self) -> float:
        """Pixels computed over pixels kept; 1 for the whole image."""
        return len(self.boxes) * math.prod(self.tile) / (self.height * self.width)


def plan(height: int, width: int, tile: int | tuple[int, int], halo: int, multiple: int = 1) -> Plan:
    """Cut an image.

    Args:
        height: of the image in input pixels, a multiple of ``multiple``.
        width: of the image, likewise.
        tile: side, or height and width, of a tile with its halo. Rounded up to ``multiple``.
        halo: context that an inner cut needs on either side, in input pixels.
        multiple: the generator's size multiple; tiles start and end on it.

    Returns:
        The plan: tiles of ``min(tile, height)`` × ``min(tile, width)``.

    Raises:
        UsageError: the tile does not exceed twice the halo along an axis that it does not cover.
        ValueError: the image is empty or no multiple of ``multiple``.
    """
    if height < 1 or width < 1 or height % multiple or width % multiple:
        raise ValueError(f"{height}×{width} cannot be cut into tiles on a grid of {multiple}")
    tall, wide = (tile, tile) if isinstance(tile, int) else tile
    tall, wide = _fit(tall, height, multiple), _fit(wide, width, multiple)
    halo = _up(halo, multiple)  # cuts on the grid: a strided layer must meet the same phase in every tile
    rows, columns = _spans(height, tall, halo, multiple), _spans(width, wide, halo, multiple)
    return Plan(height, width, (tall, wide), tuple(Box(row, column) for row in rows for column in columns))


def auto_tile(height: int, width: int, halo: int, max_pixels: int, multiple: int = 1) -> tuple[int, int]:
    """The tile that wastes least among those of at most ``max_pixels``; the whole image where it fits.

    Args:
        height: of the image in input pixels.
        width: of the image.
        halo: as in :func:`plan`.
        max_pixels: what the engine's memory holds, in input pixels.
        multiple: as in :func:`plan`.

    Returns:
        Height and width. Where even the smallest sensible tile is above ``max_pixels``, that one.
    """
    halo = _up(halo, multiple)
    best: tuple[float, tuple[int, int]] | None = None
    for rows, tall in _even_sizes(height, halo, multiple):
        for columns, wide in _even_sizes(width, halo, multiple):
            if tall * wide <= max_pixels:
                cost = rows * columns * tall * wide
                if best is None or cost < best[0]:
                    best = (cost, (tall, wide))
                break  # more columns only add overlap
    # Twice the halo would keep nothing; below four times it a tile wastes more than four fifths of its work.
    least = _up(max(4 * halo, 32), multiple)
    return best[1] if best else (min(least, height), min(least, width))


def run_tiled(
    engine: Engine,
    image: Tensor,
    *,
    scale: int,
    halo: int,
    tile: int | tuple[int, int] | None = None,
    multiple: int = 1,
    batch: int = 1,
    progress: Callable[[float], None] | None = None,
    out_channels: int | None = None,
    minimum: int = 1,
) -> Tensor:
    """Run an engine over one image.

    Args:
        engine: of either kind; one that wants whole images gets them whole.
        image: (N, C, H, W) uint8, uint16 or float32 on the CPU; all N are cut alike.
        scale: output side over input side.
        halo: as in :func:`plan`.
        tile: as in :func:`plan`; ``None`` for no cuts.
        multiple: as in :func:`plan`; other sizes are continued by their mirror image and the result is cropped.
        batch: tiles in one call of the engine.
        progress: called with the part that is done, above 0 up to 1.
        out_channels: of the result; ``None`` for C.
        minimum: the least side that the generator takes; smaller images are continued likewise.

    Returns:
        (N, out_channels, scale·H, scale·W), the dtype of ``image``, channels_last in memory.

    Raises:
        UsageError: the tile is too small for the halo.
        ParityError: the engine gave values that are not finite (seen in float results only).
    """
    count, channels, height, width = image.shape
    image = _pad(image, multiple, minimum)
    full_height, full_width = image.shape[2:]
    if engine.wants == "images" or tile is None:
        tile = (full_height, full_width)
    cut = plan(full_height, full_width, tile, halo, multiple)
    if len(cut.boxes) == 1 and count <= batch:
        result = _checked(engine.run(image), engine)
        if progress:
            progress(1.0)
        return result[:, :, : height * scale, : width * scale]
    # NumPy's: rows of pixels as they are encoded, and a MemoryError where there is no room.
    shape = (count, full_height * scale, full_width * scale, out_channels or channels)
    canvas = torch.from_numpy(np.empty(shape, image.numpy().dtype)).permute(0, 3, 1, 2)
    pieces = [(index, box) for index in range(count) for box in cut.boxes]
    tall, wide = cut.tile
    for first in range(0, len(pieces), batch):
        group = pieces[first : first + batch]
        views = [
            image[index, :, b.down.start : b.down.start + tall, b.across.start : b.across.start + wide]
            for index, b in group
        ]
        stack = torch.empty((len(group), channels, tall, wide), dtype=image.dtype, memory_format=torch.channels_last)
        for slot, view in enumerate(views):
            stack[slot].copy_(view)
        results = _checked(engine.run(stack), engine)
        for (index, box), result in zip(group, results, strict=True):
            _paste(canvas[index], result, box, scale)
        if progress:
            progress((first + len(group)) / len(pieces))
    return canvas[:, :, : height * scale, : width * scale]


def _paste(canvas: Tensor, result: Tensor, box: Box, scale: int) -> None:
    """Put the kept part of a tile's result in its place."""
    (top, bottom, y), (left, right, x) = (
        (span.keep * scale, span.stop * scale, (span.keep - span.start) * scale) for span in (box.down, box.across)
    )
    canvas[:, top:bottom, left:right].copy_(result[:, y : y + bottom - top, x : x + right - left])


def _checked(result: Tensor, engine: Engine) -> Tensor:
    if result.is_floating_point() and not bool(result.isfinite().all()):
        raise ParityError(
            f"{engine.backend} gave values that are not finite in {engine.precision}: use a safer precision (fp32)"
        )
    return result


def _pad(image: Tensor, multiple: int, minimum: int) -> Tensor:
    """Mirror the image at its last row and column up to the size multiple and the least size."""
    height, width = image.shape[2:]
    tall, wide = (_up(max(side, minimum), multiple) for side in (height, width))
    if (tall, wide) == (height, width):
        return image
    # In NumPy, since torch pads no 16-bit integers.
    edges = ((0, 0), (0, 0), (0, tall - height), (0, wide - width))
    return torch.from_numpy(np.pad(image.numpy(), edges, mode="reflect"))


def _spans(length: int, tile: int, halo: int, multiple: int) -> list[Span]:
    if tile >= length:
        return [Span(0, 0, length)]
    step = tile - 2 * halo
    if step < multiple:
        raise UsageError(
            f"tile {tile} is too small: this model needs more than {2 * halo} (at least {2 * halo + multiple}) "
            f"where a tile does not cover the image"
        )
    spans: list[Span] = []
    start = keep = 0
    while start + tile < length:
        stop = start + tile - halo
        spans.append(Span(start, keep, stop))
        keep, start = stop, start + step
    # The last tile is shifted inwards to end with the image; it keeps only what is missing.
    return [*spans, Span(length - tile, keep, length)]


def _even_sizes(length: int, halo: int, multiple: int) -> list[tuple[int, int]]:
    """How many tiles along an axis, and the least size with which that many cover it; largest first."""
    sizes = [(1, length)]
    inner = length - 2 * halo
    for count in range(2, inner // max(halo, 32) + 1):
        size = _up(math.ceil(inner / count), multiple) + 2 * halo
        if size >= length or size <= 2 * halo or size >= sizes[-1][1]:
            continue
        sizes.append((count, size))
    return sizes


def _fit(tile: int, length: int, multiple: int) -> int:
    return min(_up(tile, multiple), length)


def _up(value: int, multiple: int) -> int:
    return -(-value // multiple) * multiple
