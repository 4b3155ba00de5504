"""Run an image that does not fit into memory through the engine, strip by strip.

A strip has the full width of the image. Its rows are read with the halo of the generator above and below, run in
blocks, and cut to the rows that no missing pixel reaches. So a result has the pixels of a run in one piece. What
depends on the whole image is found by reading it once before: whether its channels are equal, whether its transparency
is the same everywhere, the colours below transparent pixels, and the contrast. That also finds a damaged file before
hours of work. Importing this module imports no torch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import groupby

import numpy as np

from gankit.errors import NoMemoryError
from gankit.images import DecodedImage
from gankit.images.alpha import BleedByRows
from gankit.images.row_image import RowGenerator, RowImage
from gankit.images.row_writers import even_strips
from gankit.memory import size
from gankit.models.facts import Facts
from gankit.pipeline.processor import Processor
from gankit.pipeline.tiles import Plan, plan

_ALPHA_HALO = 2  # rows around a pixel of the transparency that decide whether it is flat
_USABLE = 0.75  # of the memory; the rest is what the allocators of the libraries keep between their calls
_LEAST_ROWS = 16  # of a strip, without its halo
_ROWS = 256  # more rows than these, or than some halos, save hardly any work
_BLEED_BYTES = 64  # for each pixel of the rows in which transparent pixels get their colours
_CHECKED_ROWS = 64
_MORE_WASTE = 1.05


@dataclass(frozen=True)
class Looked:
    """What reading an image once has found.

    Attributes:
        equal: whether its channels are equal wherever it is visible.
        alpha: the value of its transparency if that is the same everywhere; otherwise ``None``.
        bleed: spreads the colours below transparent pixels; ``None`` for an image without transparency.
        deviation: the largest standard deviation of its channels in levels; infinite if it has more than 8 bits.
    """

    equal: bool
    alpha: float | None
    bleed: BleedByRows | None
    deviation: float


def look(image: RowImage) -> Looked:
    """Read an image once.

    Args:
        image: the image.

    Raises:
        ImageError: If the image is damaged or ends early.
    """
    head = image.head
    bleed = None if head.alpha is None else BleedByRows()
    equal = visible_equal = True
    first: float | None = None
    same, visible = True, False
    counts = np.zeros((3, 256), np.int64) if head.pixels.dtype == np.uint8 else None
    with closing(_chunks(image)) as chunks:
        for rows in chunks:
            pixels, alpha = parted(rows, head)
            alike = (pixels == pixels[..., :1]).all(axis=2)
            equal = equal and bool(alike.all())
            if counts is not None:
                for channel in range(3):
                    counts[channel] += np.bincount(pixels[..., channel].ravel(), minlength=256)
            if alpha is not None and bleed is not None:
                first = alpha.flat[0].item() if first is None else first
                same = same and bool((alpha == first).all())
                seen = alpha != 0
                visible = visible or bool(seen.any())
                visible_equal = visible_equal and bool(alike[seen].all())
                bleed.add(pixels, alpha)
    if bleed is not None:
        bleed.complete()
        equal = visible_equal if visible else equal
    return Looked(equal, first if same else None, bleed, math.inf if counts is None else _deviation(counts))


def _deviation(counts: np.ndarray) -> float:
    """The largest standard deviation of channels with these histograms (C, 256)."""
    levels = np.arange(256)
    largest = 0.0
    for each in counts:
        mean = each @ levels / max(1, each.sum())
        largest = max(largest, float(each @ (levels - mean) ** 2 / max(1, each.sum())))
    return math.sqrt(largest)


def parted(rows: np.ndarray, head: DecodedImage) -> tuple[np.ndarray, np.ndarray | None]:
    """Return the colours (n, W, 3) and the transparency (n, W) of rows in the layout of a file."""
    colours = np.repeat(rows[..., :1], 3, axis=2) if head.gray else np.ascontiguousarray(rows[..., :3])
    return colours, None if head.alpha is None else np.ascontiguousarray(rows[..., -1])


def strips_of_rows(cut: Plan, first: int, last: int) -> Plan:
    """Return the strips of a plan that make some rows.

    Args:
        cut: the plan.
        first: the first row, of the source.
        last: the row behind the last one.
    """
    return replace(cut, boxes=tuple(box for box in cut.boxes if box.down.keep < last and box.down.stop > first))


def _chunks(image: RowImage) -> RowGenerator:
    """Yield the rows of an image in chunks that a :class:`BleedByRows` takes."""
    with closing(image.read()) as rows:
        yield from even_strips(rows, BleedByRows.rows if image.head.alpha is not None else _CHECKED_ROWS)


def plan_strips(image: RowImage, facts: Facts, halo: int, room: int, resizing: int = 0, *, in_flight: int = 1) -> Plan:
    """Plan the strips and their blocks.

    Args:
        image: the image.
        facts: facts of the generator.
        halo: halo of the generator in input pixels.
        room: bytes that are available.
        resizing: bytes that resizing the result takes.
        in_flight: strips that are read, and results that are written, at a time.

    Returns:
        The plan of the image, padded to the size multiple of the generator. Boxes with the same rows are a strip.

    Raises:
        NoMemoryError: If not even the smallest strip fits.
    """
    room = int(room * _USABLE) - resizing
    head, multiple, scale = image.head, facts.multiple, facts.scale
    height, width = (_up(max(side, facts.minimum), multiple) for side in (image.height, image.width))
    halo = _up(max(halo, _ALPHA_HALO if head.alpha is not None else 0), multiple)
    each = (3 + (head.alpha is not None)) * head.pixels.itemsize  # bytes of a pixel
    plain = head.alpha is None and not head.gray and head.hdr is None and head.pixels.itemsize == 1
    line = each * width
    fixed = 2 * image.part_bytes + (_BLEED_BYTES * BleedByRows.rows * width if head.alpha is not None else 0)
    narrow = min(width, _up(max(4 * halo, 64, facts.minimum, 2 * multiple), multiple))
    block = 2 * 3 * each * scale**2  # bytes of a pixel: its result, as the engine makes it, and copied
    # The results, and what the encoder copies of one, take a third with the rows: those in use, and those being joined.
    read, made = in_flight + 1, max(2, in_flight + (not plain)) * scale**2
    inner = (room // 3 - read * 2 * halo * line) // ((made + read) * line)
    fitting = (room - fixed - 2 * halo * (read * line + block * narrow)) // ((made + read) * line + block * narrow)
    least = min(height, _up(max(_LEAST_ROWS, facts.minimum, 2 * multiple), multiple))
    inner = max(least, min(inner, fitting, max(_ROWS, 8 * halo))) // multiple * multiple
    tall = _even(height, min(height, inner + 2 * halo), halo, multiple)
    # A block takes a sixth.
    wide = max(narrow, min(width, room // 6 // (tall * block) // multiple * multiple))
    wide = _even(width, wide, halo, multiple)
    needed = fixed + line * (made * inner + read * tall) + block * tall * narrow
    if needed > room:
        needed, room = needed + resizing, room + resizing
        raise NoMemoryError(
            f"{image.path}: strips of {tall} rows take about {size(needed)} of memory, and {size(room)} are available; "
            "free some memory or use a larger --max-memory"
        )
    return plan(height, width, (tall, wide), halo, multiple)


def plan_in_flight(image: RowImage, facts: Facts, halo: int, room: int, resizing: int = 0) -> tuple[Plan, int]:
    """Plan the strips, and how many are in flight: 2, where their smaller share of the memory repeats little more work.

    Args are those of :func:`plan_strips`.

    Returns:
        The plan, and 1 or 2.

    Raises:
        NoMemoryError: If not even the smallest strip fits.
    """
    one = plan_strips(image, facts, halo, room, resizing)
    try:
        two = plan_strips(image, facts, halo, room, resizing, in_flight=2)
    except NoMemoryError:
        return one, 1
    return (two, 2) if two.waste <= _MORE_WASTE * one.waste else (one, 1)


def count_strips(cut: Plan) -> int:
    """Return the number of strips of a plan."""
    return len({box.down for box in cut.boxes})


def read_strips(image: RowImage, looked: Looked, cut: Plan) -> RowGenerator:
    """Yield the rows of each strip with its halo, (n, W, C).

    Args:
        image: the image.
        looked: what :func:`look` found.
        cut: the result of :func:`plan_strips`.

    Raises:
        ImageError: If the image is damaged or ends early.
    """
    start = stop = 0
    parts: list[np.ndarray] = []
    with closing(_bled(image, looked)) as chunks:
        for down, _ in groupby(cut.boxes, key=lambda box: box.down):
            first, last = down.start, min(down.start + cut.tile[0], image.height)
            while stop < last:
                rows = next(chunks)
                parts.append(rows)
                stop += len(rows)
                while start + len(parts[0]) <= first and len(parts) > 1:
                    start += len(parts.pop(0))
            while parts and start + len(parts[0]) <= first:
                start += len(parts.pop(0))
            joined = np.concatenate(parts) if len(parts) > 1 else parts[0]
            parts, start = [joined[first - start :]], first
            yield parts[0][: last - first]


def run_strips(
    processor: Processor,
    image: RowImage,
    looked: Looked,
    cut: Plan,
    rows: RowGenerator,
    progress: Callable[[float], None] = lambda part: None,
    *,
    in_flight: int = 1,
) -> Generator[DecodedImage, None, None]:
    """Run an image through an engine.

    Args:
        processor: runs the blocks.
        image: the image.
        looked: what :func:`look` found.
        cut: the result of :func:`plan_strips`.
        rows: the rows of each strip, as :func:`read_strips` yields them; closed at the end.
        progress: called with the fraction that is done, up to 1.
        in_flight: number of strips of the result whose memory is kept.

    Yields:
        The strips of the result from the top. Each uses the memory of the one that came ``in_flight`` before it.

    Raises:
        ImageError, NotFiniteError, EngineMemoryError: If the image fails.
    """
    head, scale, itemsize = image.head, processor.facts.scale, image.head.pixels.dtype
    strips = [(down, list(boxes)) for down, boxes in groupby(cut.boxes, key=lambda box: box.down)]
    tallest = max(min(down.stop, image.height) - down.keep for down, _ in strips)
    # Written once, so that the memory is taken before the engine sees how much of it is left.
    canvases = [
        np.full((tallest * scale, image.width * scale, 3), 1, itemsize) for _ in range(min(in_flight, len(strips)))
    ]
    alphas = [np.full(each.shape[:2], looked.alpha or 0, itemsize) for each in canvases if head.alpha is not None]
    done = 0
    with closing(rows):
        for number, (down, boxes) in enumerate(strips):
            arrived = next(rows)
            kept = min(down.stop, image.height) - down.keep
            colours = canvases[number % len(canvases)]
            opacity = alphas[number % len(alphas)] if alphas else None
            for box in boxes:
                left, right = box.across.keep, min(box.across.stop, image.width)
                if left < right and kept > 0:
                    part = arrived[:, box.across.start : box.across.start + cut.tile[1]]
                    pixels, alpha = parted(part, head)
                    inside = (
                        slice((down.keep - down.start) * scale, (down.keep - down.start + kept) * scale),
                        slice((left - box.across.start) * scale, (right - box.across.start) * scale),
                    )
                    place = slice(0, kept * scale), slice(left * scale, right * scale)
                    colours[place] = processor.colours(pixels, head.gray, equal=looked.equal)[inside]
                    if opacity is not None and alpha is not None and looked.alpha is None:
                        opacity[place] = processor.alpha(alpha)[inside]
                    del part, pixels, alpha
                done += 1
                progress(done / len(cut.boxes))
            del arrived
            if kept > 0:
                made = None if opacity is None else opacity[: kept * scale]
                yield replace(head, pixels=colours[: kept * scale], alpha=made)


def _bled(image: RowImage, looked: Looked) -> RowGenerator:
    """Yield the rows with the colours that transparent pixels get."""
    top = 0
    with closing(_chunks(image)) as chunks:
        for rows in chunks:
            if looked.bleed is not None:
                pixels, alpha = parted(rows, image.head)
                assert alpha is not None
                bled = looked.bleed.bled(pixels, alpha, top)
                if bled is not pixels:
                    rows = np.concatenate([bled[..., : rows.shape[2] - 1], alpha[..., None]], axis=2)
            yield rows
            top += len(rows)


def _even(length: int, size: int, halo: int, multiple: int) -> int:
    """Return the smallest size of so many pieces as pieces of ``size`` would be, because the last one is no smaller."""
    if size >= length:
        return size
    count = -(-(length - 2 * halo) // (size - 2 * halo))
    return _up(-(-(length - 2 * halo) // count), multiple) + 2 * halo


def _up(value: int, multiple: int) -> int:
    return -(-value // multiple) * multiple
