"""Write animated GIF: a palette for each frame, and of each frame only what has changed if none is transparent."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from typing import IO

import numpy as np

from gankit.images.decoded import DecodedImage
from gankit.images.frames.facts import FrameFacts
from gankit.images.frames.writing import changed_box, cut
from gankit.images.gif_file import CLEAR, KEEP, TRAILER, header, image_block


class Writer:
    """Writes animated GIF; see :class:`gankit.images.frames.writing.FrameWriter`."""

    def __init__(self, file: IO[bytes], facts: FrameFacts, quality: int) -> None:
        self._file, self._facts = file, facts
        self._last: np.ndarray | None = None
        self._time = Fraction(0)
        self._written = 0  # hundredths of a second
        self._rounded = False

    def add(self, image: DecodedImage, seconds: Fraction) -> None:
        """Write a frame."""
        if self._last is None:
            height, width = image.pixels.shape[:2]
            self._file.write(header(width, height, plays=self._facts.plays, comment=image.comment))
        self._time += seconds
        hundredths = round(self._time * 100) - self._written  # rounding never adds up
        self._written += hundredths
        self._rounded = self._rounded or hundredths != seconds * 100
        if image.alpha is not None:  # a transparent pixel cannot replace an opaque one
            self._file.write(image_block(image, hundredths=hundredths, disposal=CLEAR))
        else:
            box = changed_box(self._last, image.pixels)
            part = replace(image, pixels=cut(image.pixels, box))
            self._file.write(image_block(part, box[:2], hundredths=hundredths, disposal=KEEP))
        self._last = image.pixels

    def finish(self) -> tuple[str, ...]:
        """Complete the file."""
        self._file.write(TRAILER)
        rounded = "GIF holds times in hundredths of a second; those of some frames are rounded"
        return (rounded,) if self._rounded else ()
