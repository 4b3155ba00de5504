"""What the writers of frames share, and which of them writes a format."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from importlib import import_module
from pathlib import Path
from types import MappingProxyType
from typing import IO, Protocol

import numpy as np

from gankit.images.decoded import DecodedImage
from gankit.images.formats import Format, writer_of
from gankit.images.frames.facts import FrameFacts

Box = tuple[int, int, int, int]

_HELD = {"avif": 16}  # frames, encoded or to be encoded: 14 were measured

TITLES: Mapping[str, str] = MappingProxyType(
    {
        "png": "animated PNG (APNG)",
        "webp": "animated WebP",
        "gif": "animated GIF",
        "avif": "animated AVIF",
        "tiff": "multi-page TIFF",
    }
)
"""What each format that holds several frames is called when it does, by the name of the format."""

_MODULES: Mapping[str, str] = MappingProxyType({name: f"gankit.images.frames.{name}" for name in TITLES})


class FrameWriter(Protocol):
    """Writes frames to a file, one after the other, and keeps as many of them as :func:`frames_held` says.

    Args:
        file: an empty file, open for reading and writing.
        facts: facts of the source. The number of frames and of plays are those of the result.
        quality: 1 to 100, of lossy formats.
    """

    def __init__(self, file: IO[bytes], facts: FrameFacts, quality: int) -> None: ...

    def add(self, image: DecodedImage, seconds: Fraction) -> None:
        """Write a frame.

        Args:
            image: a frame that was reduced to what the format holds. Metadata are those of the first one, except in a
                TIFF.
            seconds: how long it is shown.
        """

    def finish(self) -> tuple[str, ...]:
        """Complete the file, and return a sentence for each thing that the format cannot hold."""


def format_for(facts_kind: str, target: Path) -> Format | None:
    """Return the format of a target if it holds the frames of a source, else ``None``.

    The pages of a TIFF have no times, and become pages only.

    Args:
        facts_kind: kind of the source.
        target: file of the result.
    """
    format = writer_of(target.suffix)
    if format is None or format.name not in TITLES or (facts_kind == "tiff" and format.name != "tiff"):
        return None
    return format


def frame_writer(format: Format, file: IO[bytes], facts: FrameFacts, quality: int) -> FrameWriter:
    """Return a writer.

    Args:
        format: what :func:`format_for` returned.
        file: as for :class:`FrameWriter`, as are the other arguments.
        facts: see there.
        quality: see there.
    """
    writer: FrameWriter = import_module(_MODULES[format.name]).Writer(file, facts, quality)
    return writer


def frames_held(format: Format) -> int:
    """Return how many frames the writer of a format holds at most, with those that its encoder looks ahead to."""
    return _HELD.get(format.name, 3)


def changed_box(before: np.ndarray | None, after: np.ndarray, align: int = 1) -> Box:
    """Return the part of a frame that differs from the one before it; one pixel if nothing does.

    Args:
        before: samples of the frame before, (H, W) or (H, W, C); ``None`` if there is none.
        after: samples of the frame.
        align: left and top are multiples of this number.

    Returns:
        Left, top, right and bottom in pixels.
    """
    height, width = after.shape[:2]
    if before is None:
        return 0, 0, width, height
    if before is after:
        return 0, 0, 1, 1
    changed = before != after
    if changed.ndim == 3:
        changed = changed.any(axis=2)
    rows, columns = np.flatnonzero(changed.any(axis=1)), np.flatnonzero(changed.any(axis=0))
    if not len(rows):
        return 0, 0, 1, 1
    left, top = int(columns[0]) // align * align, int(rows[0]) // align * align
    return left, top, int(columns[-1]) + 1, int(rows[-1]) + 1


def cut(samples: np.ndarray, box: Box) -> np.ndarray:
    """Return a part of samples, contiguous."""
    left, top, right, bottom = box
    return np.ascontiguousarray(samples[top:bottom, left:right])
