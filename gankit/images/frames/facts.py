"""What is known of an animation or a multi-page file before its frames are processed."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import IO, Literal

from PIL import AvifImagePlugin

from gankit.images.formats.boxes import brands

Kind = Literal["gif", "png", "webp", "avif", "tiff"]

NOTE_STARTS = ("only the first of ", "only the still image ")
"""Beginnings of the notes of a decoded image that say that it is one of several frames."""

_PNG, _TIFF = b"\x89PNG\r\n\x1a\n", (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_MAGIC_BYTES = 256
_WEBP_ANIMATION = 2  # bit of the first byte of VP8X


@dataclass(frozen=True)
class FrameFacts:
    """The facts of an animation or a multi-page file, whose frames were all decoded once.

    Attributes:
        path: the file.
        kind: its format. The frames of a ``"tiff"`` are pages, which may differ in size and have no times.
        seconds: duration of each frame; one value of 0 for each page.
        runs: for each frame that differs from the one before it, the number of equal frames that begin with it.
        plays: how often the animation plays; 0 for without end.
        alpha: whether any frame is transparent anywhere.
        gray: whether all frames are gray.
        notes: a sentence for each part of the file that its frames do not have.
        deep: whether frames of 10 or 12 bits are read with all of them, which takes the memory of all frames.
    """

    path: Path
    kind: Kind
    seconds: tuple[Fraction, ...]
    runs: tuple[int, ...]
    plays: int = 0
    alpha: bool = False
    gray: bool = False
    notes: tuple[str, ...] = ()
    deep: bool = False

    @property
    def count(self) -> int:
        """Number of frames."""
        return len(self.seconds)

    @property
    def word(self) -> str:
        """What the frames are called: ``"frame"`` or ``"page"``."""
        return "page" if self.kind == "tiff" else "frame"


def kind_of(path: Path) -> Kind | None:
    """Return the format of a file that holds several frames or pages, without decoding any.

    Returns:
        ``None`` for a still image, for any other file, and for a file that is too damaged to tell.
    """
    try:
        with path.open("rb") as file:
            start = file.read(_MAGIC_BYTES)
            if start.startswith(_PNG):
                return "png" if _is_apng(file) else None
            if start[:4] == b"RIFF" and start[8:16] == b"WEBPVP8X":
                return "webp" if start[20] & _WEBP_ANIMATION and _webp_frames(file) > 1 else None
            if b"avis" in brands(start):
                file.seek(0)
                return "avif" if AvifImagePlugin.AvifImageFile(file).n_frames > 1 else None
            if start.startswith((b"GIF87a", b"GIF89a")):
                return "gif" if _gif_moves(file) else None
            if start.startswith(_TIFF):
                return "tiff" if _tiff_pages(file) > 1 else None
    except Exception:  # decoding it reports the error
        return None
    return None


def _is_apng(file: IO[bytes]) -> bool:
    """Whether a chunk before the pixels announces several frames."""
    at = len(_PNG)
    while True:
        file.seek(at)
        size, name = struct.unpack(">I4s", file.read(8))
        if name == b"acTL":
            return int.from_bytes(file.read(4), "big") > 1
        if name == b"IDAT":
            return False
        at += size + 12


def _webp_frames(file: IO[bytes]) -> int:
    at, count = 12, 0
    while True:
        file.seek(at)
        head = file.read(8)
        if len(head) < 8:
            return count
        count += head[:4] == b"ANMF"
        size = int.from_bytes(head[4:], "little")
        at += 8 + size + size % 2


def _gif_moves(file: IO[bytes]) -> bool:
    from PIL import GifImagePlugin

    file.seek(0)
    return bool(GifImagePlugin.GifImageFile(file).is_animated)


def _tiff_pages(file: IO[bytes]) -> int:
    import tifffile

    from gankit.images.tiff_file import page_numbers

    file.seek(0)
    with tifffile.TiffFile(file) as tiff:
        return len(page_numbers(tiff))
