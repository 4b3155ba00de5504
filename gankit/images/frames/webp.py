"""Write animated WebP: each frame as a still image of gankit, and of each frame only what has changed.

Pillow's writer takes all frames as a list, and joins equal ones. A file is a list of chunks (RFC 9649): the canvas and
what the file has (VP8X), the profile, the loop, the frames (ANMF), EXIF and XMP.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from typing import IO

import numpy as np

from gankit.errors import ImageError
from gankit.images.decoded import DecodedImage
from gankit.images.formats.webp import encode_webp
from gankit.images.frames.facts import FrameFacts
from gankit.images.frames.writing import changed_box, cut

_ICC, _ALPHA, _EXIF, _XMP, _ANIMATION = 0x20, 0x10, 0x08, 0x04, 0x02  # bits of VP8X
_NO_BLENDING = 0x02  # bit of ANMF: the frame replaces what is there
_LONGEST = (1 << 24) - 1  # milliseconds
_LARGEST = (1 << 32) - 10  # bytes


class Writer:
    """Writes animated WebP; see :class:`gankit.images.frames.writing.FrameWriter`."""

    def __init__(self, file: IO[bytes], facts: FrameFacts, quality: int) -> None:
        self._file, self._facts, self._quality = file, facts, quality
        self._first: DecodedImage | None = None
        self._last: np.ndarray | None = None
        self._last_image: DecodedImage | None = None
        self._time = Fraction(0)
        self._written = 0  # milliseconds
        self._rounded = False

    def add(self, image: DecodedImage, seconds: Fraction) -> None:
        """Write a frame."""
        if self._first is None:
            self._first = replace(image, pixels=image.pixels[:1, :1], alpha=None)  # for its metadata
            self._begin(image)
        samples = self._last if self._last is not None and image is self._last_image else image.channels()
        self._time += seconds
        milliseconds = round(self._time * 1000) - self._written
        self._written += milliseconds
        self._rounded = self._rounded or milliseconds != seconds * 1000
        box = changed_box(self._last, samples, align=2)
        left, top, right, bottom = box
        part = DecodedImage(
            cut(image.pixels, box), None if image.alpha is None else cut(image.alpha, box), gray=image.gray
        )
        head = [left // 2, top // 2, right - left - 1, bottom - top - 1, min(milliseconds, _LONGEST)]
        body = b"".join(value.to_bytes(3, "little") for value in head) + bytes([_NO_BLENDING])
        self._chunk(b"ANMF", body + b"".join(_bitstream(encode_webp(part, self._quality))))
        self._last, self._last_image = samples, image

    def _begin(self, image: DecodedImage) -> None:
        height, width = image.pixels.shape[:2]
        flags = _ANIMATION
        for bit, there in ((_ICC, image.icc_profile), (_ALPHA, self._facts.alpha), (_EXIF, image.exif),
                           (_XMP, image.xmp)):  # fmt: skip
            flags |= bit if there else 0
        self._file.write(b"RIFF\0\0\0\0WEBP")
        size = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
        self._chunk(b"VP8X", struct.pack("<I", flags) + size)
        if image.icc_profile:
            self._chunk(b"ICCP", image.icc_profile)
        self._chunk(b"ANIM", struct.pack("<IH", 0, min(self._facts.plays, 65535)))

    def _chunk(self, name: bytes, body: bytes) -> None:
        self._file.write(_packed(name, body))

    def finish(self) -> tuple[str, ...]:
        """Complete the file.

        Raises:
            ImageError: it is larger than a WebP may be.
        """
        if self._first is not None and self._first.exif:
            self._chunk(b"EXIF", self._first.exif.removeprefix(b"Exif\0\0"))
        if self._first is not None and self._first.xmp:
            self._chunk(b"XMP ", self._first.xmp)
        end = self._file.tell()
        if end > _LARGEST:
            raise ImageError(self._facts.path, "the animation takes more than 4 GB as WebP; use --format png")
        self._file.seek(4)
        self._file.write(struct.pack("<I", end - 8))
        rounded = "WebP holds times in milliseconds; those of some frames are rounded"
        return (rounded,) if self._rounded else ()


def _bitstream(still: bytes) -> Iterator[bytes]:
    """Yield the chunks of a still image that a frame consists of: its transparency and its pixels."""
    at = 12
    while at + 8 <= len(still):
        name, size = still[at : at + 4], int.from_bytes(still[at + 4 : at + 8], "little")
        if name in (b"ALPH", b"VP8 ", b"VP8L"):
            yield _packed(name, still[at + 8 : at + 8 + size])
        at += 8 + size + size % 2


def _packed(name: bytes, body: bytes) -> bytes:
    return name + struct.pack("<I", len(body)) + body + b"\0" * (len(body) % 2)
