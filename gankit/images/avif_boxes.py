"""What the boxes of an animated AVIF say about its times (ISO/IEC 14496-12), which Pillow rounds or leaves out."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from fractions import Fraction

_CONTAINERS = frozenset({b"moov", b"trak", b"mdia", b"minf", b"stbl", b"edts"})
_REPEATS = 1  # flag of an edit list
_ENDLESS = (1 << 64) - 1, (1 << 32) - 1  # as a duration of 64 or 32 bits
_MOST_FRAMES = 1 << 24


def durations(data: bytes) -> tuple[Fraction, ...]:
    """Return the durations of the frames in seconds; none if the file does not state them.

    Args:
        data: the whole file.
    """
    try:
        return tuple(_durations(data))
    except (struct.error, IndexError, ZeroDivisionError):
        return ()


def _durations(data: bytes) -> Iterator[Fraction]:
    boxes = _first_of_each(data)
    at, table = boxes.get(b"mdhd"), boxes.get(b"stts")
    if at is None or table is None:
        return
    (scale,) = struct.unpack_from(">I", data, at + (20 if data[at] == 1 else 12))
    (entries,) = struct.unpack_from(">I", data, table + 4)
    total = 0
    for number in range(entries):
        count, ticks = struct.unpack_from(">II", data, table + 8 + 8 * number)
        total += count
        if total > _MOST_FRAMES:
            raise IndexError
        duration = Fraction(ticks, scale)
        for _ in range(count):
            yield duration


def plays(data: bytes) -> int:
    """Return how often an animation plays in all; 0 for without end, and for a file that does not say, as in browsers.

    Args:
        data: the whole file.
    """
    try:
        boxes = _first_of_each(data)
        edits = boxes.get(b"elst")
        if edits is None:
            return 0
        if not data[edits + 3] & _REPEATS:
            return 1
        whole, once = _duration(data, boxes[b"tkhd"], 20, 28), _duration(data, edits, 8, 8)
    except (struct.error, IndexError, KeyError):
        return 0
    return 0 if whole in _ENDLESS or not once else -(-whole // once)


def with_plays(data: bytes, plays: int) -> bytes:
    """Return an endless animation, as Pillow's encoder writes it, so that it plays a number of times.

    Args:
        data: the whole file, whose durations have 64 bits.
        plays: how often it plays in all; 0 for without end.
    """
    if not plays:
        return data
    changed = bytearray(data)
    (once,) = struct.unpack_from(">Q", data, _first_of_each(data)[b"elst"] + 8)
    for name, at in _boxes(data):
        if name in (b"mvhd", b"tkhd"):
            struct.pack_into(">Q", changed, at + (24 if name == b"mvhd" else 28), once * plays)
        elif name == b"elst":
            changed[at + 3] = _REPEATS if plays > 1 else 0
    return bytes(changed)


def _duration(data: bytes, at: int, short: int, long: int) -> int:
    """Return the duration in a box whose version says how many bits it has."""
    value: int = (
        struct.unpack_from(">Q", data, at + long)[0] if data[at] == 1 else struct.unpack_from(">I", data, at + short)[0]
    )
    return value


def _first_of_each(data: bytes) -> dict[bytes, int]:
    """Return where the bodies of the boxes begin, by their names; the first of each."""
    found: dict[bytes, int] = {}
    for name, at in _boxes(data):
        found.setdefault(name, at)
    return found


def _boxes(data: bytes, start: int = 0, end: int | None = None, depth: int = 0) -> Iterator[tuple[bytes, int]]:
    """Yield the name and the beginning of the body of each box, and of those within."""
    end = len(data) if end is None else end
    at = start
    while at + 8 <= end:
        size, name, head = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8], 8
        if size == 1:
            size, head = int.from_bytes(data[at + 8 : at + 16], "big"), 16
        elif size == 0:
            size = end - at
        if size < head or at + size > end:
            return
        yield name, at + head
        if name in _CONTAINERS and depth < len(_CONTAINERS):
            yield from _boxes(data, at + head, at + size, depth + 1)
        at += size
