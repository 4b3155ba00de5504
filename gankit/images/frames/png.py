"""Write animated PNG (APNG): every depth and kind of PNG, exact times, and of each frame only what has changed.

Pillow's writer keeps all frames in memory, joins equal ones, and holds 8 bits.
"""

from __future__ import annotations

import struct
from fractions import Fraction
from typing import IO

import numpy as np

from gankit.images.decoded import DecodedImage
from gankit.images.formats.png import SIGNATURE, chunk, head_chunks, pixel_data
from gankit.images.frames.facts import FrameFacts
from gankit.images.frames.writing import changed_box, cut

_LARGEST = 65534  # of the two numbers of a time; one less than they hold, because a time is rounded


class Writer:
    """Writes APNG; see :class:`gankit.images.frames.writing.FrameWriter`."""

    def __init__(self, file: IO[bytes], facts: FrameFacts, quality: int) -> None:
        self._file, self._facts = file, facts
        self._number = 0  # of the next fcTL or fdAT chunk
        self._last: np.ndarray | None = None
        self._last_image: DecodedImage | None = None

    def add(self, image: DecodedImage, seconds: Fraction) -> None:
        """Write a frame."""
        samples = self._last if self._last is not None and image is self._last_image else image.channels()
        if self._last is None:
            self._file.write(b"".join((SIGNATURE, *head_chunks(image))))
            self._file.write(chunk(b"acTL", struct.pack(">II", self._facts.count, self._facts.plays)))
        box = changed_box(self._last, samples)
        width, height = box[2] - box[0], box[3] - box[1]
        time = min(seconds, Fraction(_LARGEST)).limit_denominator(int(_LARGEST / max(Fraction(1), seconds)) or 1)
        self._chunk(b"fcTL", struct.pack(">IIII", width, height, *box[:2]), time)
        for part in pixel_data(cut(samples, box)):
            if self._last is None:
                self._file.write(chunk(b"IDAT", part))
            else:
                self._chunk(b"fdAT", part)
        self._last, self._last_image = samples, image

    def _chunk(self, name: bytes, body: bytes, time: Fraction | None = None) -> None:
        """Write a chunk that begins with its number. A time is followed by disposal and blending, which are none."""
        end = b"" if time is None else struct.pack(">HHBB", time.numerator, time.denominator, 0, 0)
        self._file.write(chunk(name, struct.pack(">I", self._number) + body + end))
        self._number += 1

    def finish(self) -> tuple[str, ...]:
        """Complete the file."""
        self._file.write(chunk(b"IEND", b""))
        return ()
