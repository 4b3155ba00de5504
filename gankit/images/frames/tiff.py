"""Write a TIFF of several pages, each with its own metadata, as still images are written."""

from __future__ import annotations

from fractions import Fraction
from typing import IO

import tifffile

from gankit.images.decoded import DecodedImage
from gankit.images.frames.facts import FrameFacts
from gankit.images.tiff_write import CLASSIC_LIMIT, add_directories, deflated, page_options, stored_samples


class Writer:
    """Writes a multi-page TIFF; see :class:`gankit.images.frames.writing.FrameWriter`."""

    def __init__(self, file: IO[bytes], facts: FrameFacts, quality: int) -> None:
        self._file, self._facts = file, facts
        self._writer: tifffile.TiffWriter | None = None
        self._first: DecodedImage | None = None
        self._big = False

    def add(self, image: DecodedImage, seconds: Fraction) -> None:
        """Write a page."""
        samples = stored_samples(image)
        if self._writer is None:
            self._big = samples.nbytes * self._facts.count > CLASSIC_LIMIT
            self._writer = tifffile.TiffWriter(self._file, bigtiff=self._big, byteorder="<")
            self._first = image if image.exif else None
        self._writer.write(deflated([samples]), shape=samples.shape, dtype=samples.dtype, **page_options(image))

    def finish(self) -> tuple[str, ...]:
        """Complete the file."""
        if self._writer is not None:
            self._writer.close()
        if self._first is not None and not self._big:
            add_directories(self._file, self._first)
        if self._facts.kind == "tiff":
            return ()
        return ("TIFF does not hold the times of the frames and how often they play",)
