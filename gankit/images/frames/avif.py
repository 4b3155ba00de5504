"""Write animated AVIF, one frame after the other, with the encoder behind Pillow.

Pillow's ``save`` takes all frames as a list. Its encoder takes them one by one and keeps those that it looks ahead to.
"""

from __future__ import annotations

import os
from fractions import Fraction
from typing import IO, Any

from gankit.images.avif_boxes import with_plays
from gankit.images.decoded import DecodedImage
from gankit.images.formats.avif import encoding
from gankit.images.frames.facts import FrameFacts

_MODES = {1: "L", 3: "RGB", 4: "RGBA"}  # by the number of samples; the frames of an animation have the same


class Writer:
    """Writes animated AVIF; see :class:`gankit.images.frames.writing.FrameWriter`."""

    def __init__(self, file: IO[bytes], facts: FrameFacts, quality: int) -> None:
        self._file, self._facts, self._quality = file, facts, quality
        self._encoder: Any = None
        self._last: tuple[DecodedImage, bytes] | None = None
        self._time = Fraction(0)
        self._written = 0  # milliseconds
        self._rounded = False

    def add(self, image: DecodedImage, seconds: Fraction) -> None:
        """Write a frame."""
        self._time += seconds
        milliseconds = max(1, round(self._time * 1000) - self._written)  # a frame of no duration is invalid
        self._written += milliseconds
        self._rounded = self._rounded or milliseconds != seconds * 1000
        height, width = image.pixels.shape[:2]
        if self._encoder is None:
            self._encoder = _encoder((width, height), image, self._quality)
        if self._last is None or self._last[0] is not image:
            self._last = image, image.channels().tobytes()
        self._encoder.add(self._last[1], milliseconds, (width, height), _MODES[image.samples], False)

    def finish(self) -> tuple[str, ...]:
        """Complete the file."""
        self._last = None
        if self._encoder is not None:
            self._file.write(with_plays(self._encoder.finish(), self._facts.plays))
        rounded = "AVIF holds times in milliseconds, at least one; those of some frames are rounded"
        return (rounded,) if self._rounded else ()


def _encoder(size: tuple[int, int], image: DecodedImage, quality: int) -> Any:
    """Return an encoder with the options and the metadata of a still image."""
    from PIL import _avif

    options = encoding(image, quality)
    return _avif.AvifEncoder(
        size,
        options.get("subsampling", "4:0:0"),
        quality,
        options["speed"],
        os.cpu_count() or 1,
        "auto",
        "full",
        0,  # rows and columns of tiles, which the encoder chooses itself
        0,
        False,  # the colours are not multiplied by alpha
        True,
        image.icc_profile or b"",
        (image.exif or b"").removeprefix(b"Exif\0\0"),
        1,  # upright
        image.xmp or b"",
        None,
    )
