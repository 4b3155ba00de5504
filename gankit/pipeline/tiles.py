"""Exact tiling: the stitched result equals that of the whole image, up to rounding.

Tiles lie inside the image and share its borders, so that the network's zero padding occurs only where the image ends.
At each cut, ``halo`` pixels on either side are computed and discarded. The halo is the generator's receptive field, so
the pixels that are kept depend on no pixel outside their tile. All tiles of an image have the same shape, which allows
equal batches. Importing this module imports no torch.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from gankit.backends.base import Engine, Piece, Pieces
from gankit.backends.calls import checked_run, checked_submit
from gankit.errors import ParityError, UsageError


@dataclass(frozen=True)
class Span:
    """One axis of a tile in input pixels. The tile reads [start, start + size) and keeps [keep, stop)."""

    start: int
    keep: int
    stop: int


@dataclass(frozen=True)
class Box:
    """One tile: its vertical and its horizontal span."""

    down: Span
    across: Span


@dataclass(frozen=True)
class Plan:
    """How an image is cut.

    Attributes:
        height: height of the image in input pixels.
        width: width of the image in input pixels.
        tile: height and width of every tile in input pixels.
        boxes: the tiles, row by row. The parts they keep cover the image exactly once.
    """

    height: int
    width: int
    tile: tuple[int, int]
    boxes: tuple[Box, ...]

    @property
    def waste(self) -> float:
        """Computed pixels divided by kept pixels; 1 for the whole image."""
        return len(self.boxes) * math.prod(self.tile) / (self.height * self.width)


def plan(height: int, width: int, tile: int | tuple[int, int], halo: int, multiple: int = 1) -> Plan:
    """Plan how to cut an image into tiles.

    Args:
        height: height of the image in input pixels, a multiple of ``multiple``.
        width: width of the image in input pixels, a multiple of ``multiple``.
        tile: side, or height and width, of a tile including its halo. It is rounded up to ``multiple``.
        halo: context that an inner cut needs on either side, in input pixels.
        multiple: size multiple of the generator. Tiles start and end at its multiples.

    Returns:
        The plan, with tiles of ``min(tile, height)`` × ``min(tile, width)``.

    Raises:
        UsageError: If the tile is at most twice the halo along an axis that it does not cover.
        ValueError: If the image is empty or its size is not a multiple of ``multiple``.
    """
    if height < 1 or width < 1 or height % multiple or width % multiple:
        raise ValueError(f"{height}×{width} cannot be cut into tiles on a grid of {multiple}")
    tall, wide = (tile, tile) if isinstance(tile, int) else tile
    tall, wide = _fit(tall, height, multiple), _fit(wide, width, multiple)
    halo = _up(halo, multiple)  # cuts on the grid: a strided layer must meet the same phase in every tile
    rows, columns = _spans(height, tall, halo, multiple), _spans(width, wide, halo, multiple)
    return Plan(height, width, (tall, wide), tuple(Box(row, column) for row in rows for column in columns))


def auto_tile(height: int, width: int, halo: int, max_pixels: int, multiple: int = 1) -> tuple[int, int]:
    """Find the least wasteful tile of at most ``max_pixels``; the whole image if it fits.

    Args:
        height: height of the image in input pixels.
        width: width of the image in input pixels.
        halo: as in :func:`plan`.
        max_pixels: number of input pixels that fit into the memory of the engine.
        multiple: as in :func:`plan`.

    Returns:
        Height and width. If every sensible tile exceeds ``max_pixels``, the smallest one.
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
    # A tile of twice the halo keeps nothing, and one of less than four times wastes more than four fifths of its work.
    least = _up(max(4 * halo, 32), multiple)
    return best[1] if best else (min(least, height), min(least, width))


def run_tiled(
    engine: Engine,
    image: np.ndarray,
    *,
    scale: int,
    halo: int,
    tile: int | tuple[int, int] | None = None,
    multiple: int = 1,
    batch: int = 1,
    progress: Callable[[float], None] | None = None,
    out_channels: int | None = None,
    minimum: int = 1,
) -> np.ndarray:
    """Run an engine over images in tiles.

    Args:
        engine: the engine. One that wants whole images gets them whole.
        image: (N, C, H, W) uint8, uint16 or float32. All N images are cut in the same way.
        scale: side of the output divided by side of the input.
        halo: as in :func:`plan`.
        tile: as in :func:`plan`; ``None`` does not cut.
        multiple: as in :func:`plan`. Images of other sizes are padded by reflection and the result is cropped.
        batch: tiles per call of the engine.
        progress: called with the fraction that is done, above 0 and up to 1.
        out_channels: number of channels of the result; ``None`` stands for C.
        minimum: smallest side that the generator accepts. Smaller images are padded by reflection.

    Returns:
        (N, out_channels, scale·H, scale·W) in the dtype of ``image``, a view of (N, H, W, C) in memory.

    Raises:
        UsageError: If the tile is too small for the halo.
        BackendError: If the engine returns another shape or dtype than it must.
        ParityError: If a float result of the engine contains values that are not finite.
    """
    count, channels, height, width = image.shape
    image = _pad(image, multiple, minimum)
    full_height, full_width = image.shape[2:]
    if engine.wants == "images" or tile is None:
        tile = (full_height, full_width)
    cut = plan(full_height, full_width, tile, halo, multiple)
    made = out_channels or channels
    if len(cut.boxes) == 1 and count <= batch and (count == 1 or engine.spread == 1):
        whole = (count, made, full_height * scale, full_width * scale)
        result = _finite(checked_run(engine, image, shape=whole), engine)
        if progress:
            progress(1.0)
        return result[:, :, : height * scale, : width * scale]
    if count == 1 and len(cut.boxes) > 1:
        pieces_of = tuple(
            Piece(b.down.start, b.across.start, (b.down.keep, b.down.stop), (b.across.keep, b.across.stop))
            for b in cut.boxes
        )
        whole_image = engine.stitch(image, Pieces(pieces_of, cut.tile, scale, made, batch, progress))
        if whole_image is not None:
            return _finite(whole_image, engine)[:, :, : height * scale, : width * scale]
    canvas = _channels_last(count, made, full_height * scale, full_width * scale, image.dtype)
    pieces = [(index, box) for index in range(count) for box in cut.boxes]
    tall, wide = cut.tile
    batch = min(batch, math.ceil(len(pieces) / engine.spread))
    submitted: deque[tuple[list[tuple[int, Box]], Callable[[], np.ndarray]]] = deque()
    pasted = 0

    def paste_oldest() -> None:
        nonlocal pasted
        group, finish = submitted.popleft()
        for (index, box), result in zip(group, _finite(finish(), engine), strict=True):
            _paste(canvas[index], result, box, scale)
        pasted += len(group)
        if progress:
            progress(pasted / len(pieces))

    for first in range(0, len(pieces), batch):
        group = pieces[first : first + batch]
        views = [
            image[index, :, b.down.start : b.down.start + tall, b.across.start : b.across.start + wide]
            for index, b in group
        ]
        stack = _channels_last(len(group), channels, tall, wide, image.dtype)
        for slot, view in enumerate(views):
            stack[slot] = view
        each = (len(group), made, tall * scale, wide * scale)
        submitted.append((group, checked_submit(engine, stack, shape=each)))
        if len(submitted) >= engine.depth:
            paste_oldest()
    while submitted:
        paste_oldest()
    return canvas[:, :, : height * scale, : width * scale]


def submit_whole(
    engine: Engine,
    image: np.ndarray,
    *,
    scale: int,
    multiple: int = 1,
    out_channels: int | None = None,
    minimum: int = 1,
) -> Callable[[], np.ndarray]:
    """Submit whole images in one call; return a function that waits for the result, as :func:`run_tiled` returns it.

    Args:
        engine: the engine.
        image: as in :func:`run_tiled`.
        scale: as in :func:`run_tiled`.
        multiple: as in :func:`run_tiled`.
        out_channels: as in :func:`run_tiled`.
        minimum: as in :func:`run_tiled`.
    """
    count, channels, height, width = image.shape
    padded = _pad(image, multiple, minimum)
    shape = (count, out_channels or channels, padded.shape[2] * scale, padded.shape[3] * scale)
    finish = checked_submit(engine, padded, shape=shape)
    return lambda: _finite(finish(), engine)[:, :, : height * scale, : width * scale]


def _paste(canvas: np.ndarray, result: np.ndarray, box: Box, scale: int) -> None:
    """Copy the part of a tile's result that is kept to its place."""
    (top, bottom, y), (left, right, x) = (
        (span.keep * scale, span.stop * scale, (span.keep - span.start) * scale) for span in (box.down, box.across)
    )
    canvas[:, top:bottom, left:right] = result[:, y : y + bottom - top, x : x + right - left]


def _finite(result: np.ndarray, engine: Engine) -> np.ndarray:
    if result.dtype.kind == "f" and not bool(np.isfinite(result).all()):
        raise ParityError(
            f"{engine.backend} produced values that are not finite in {engine.precision}; use --precision fp32"
        )
    return result


def _pad(image: np.ndarray, multiple: int, minimum: int) -> np.ndarray:
    """Pad the image by reflection, at the bottom and right, to the size multiple and the smallest size."""
    height, width = image.shape[2:]
    tall, wide = (_up(max(side, minimum), multiple) for side in (height, width))
    if (tall, wide) == (height, width):
        return image
    edges = ((0, 0), (0, 0), (0, tall - height), (0, wide - width))
    return np.pad(image, edges, mode="reflect")


def _channels_last(count: int, channels: int, height: int, width: int, dtype: np.dtype[Any]) -> np.ndarray:
    """Return an empty array (N, C, H, W) whose channels come last in memory, as encoders and engines need it."""
    return np.empty((count, height, width, channels), dtype).transpose(0, 3, 1, 2)


def _spans(length: int, tile: int, halo: int, multiple: int) -> list[Span]:
    if tile >= length:
        return [Span(0, 0, length)]
    step = tile - 2 * halo
    if step < multiple:
        raise UsageError(
            f"tile {tile} is too small: this model needs at least {2 * halo + multiple} (more than twice its "
            f"halo of {halo}) unless a tile covers the whole image"
        )
    spans: list[Span] = []
    start = keep = 0
    while start + tile < length:
        stop = start + tile - halo
        spans.append(Span(start, keep, stop))
        keep, start = stop, start + step
    # The last tile is shifted inwards to end with the image, and keeps only the pixels that are missing.
    return [*spans, Span(length - tile, keep, length)]


def _even_sizes(length: int, halo: int, multiple: int) -> list[tuple[int, int]]:
    """Return numbers of tiles along an axis, each with the smallest size that covers it; largest size first."""
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
