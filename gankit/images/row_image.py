"""What an image is that is read a few rows at a time, for each format."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from gankit.images.decoded import DecodedImage, from_channels
from gankit.images.formats.base import Header

RowGenerator = Generator[np.ndarray, None, None]


@dataclass(frozen=True)
class RowImage:
    """An image whose rows can be read from the top, as often as needed.

    Attributes:
        path: the file.
        width: width in pixels.
        height: height in pixels.
        head: one pixel of the image, with its dtype, channels and metadata.
        part_bytes: memory that one part of the file takes, which cannot be read in smaller ones, such as a strip.
        read: returns the rows from the top as arrays (n, W, C) in the layout of ``head.channels()``. It raises
            ImageError if the file is damaged or ends early.
    """

    path: Path
    width: int
    height: int
    head: DecodedImage
    part_bytes: int
    read: Callable[[], RowGenerator]


@dataclass(frozen=True)
class Opened:
    """What the reader of one format found.

    Attributes:
        file_bytes: size of the file.
        header: size of the image, and the memory that reading it in one piece takes.
        itemsize: bytes of a sample.
        alpha: whether it may have transparency.
        describe: returns the rest, or raises ValueError for a kind that cannot be read by rows. Called only if needed.
    """

    file_bytes: int
    header: Header
    itemsize: int
    alpha: bool
    describe: Callable[[], tuple[DecodedImage, int, Callable[[], RowGenerator]]]

    @property
    def pixel_bytes(self) -> int:
        """Bytes of a decoded pixel in memory."""
        return (3 + self.alpha) * self.itemsize


def needs_upright(orientation: int) -> None:
    """Refuse an image whose rows are not stored as they are shown.

    Raises:
        ValueError: The message says what to do.
    """
    if orientation != 1:
        raise ValueError(
            f"its EXIF orientation is {orientation}, and only upright images are processed by strips; rotate it first"
        )


def head_of(samples: int, dtype: Any, icc_profile: bytes | None, fields: dict[str, Any], name: str) -> DecodedImage:
    """Return one black pixel with the layout and the metadata of an image."""
    pixel = from_channels(np.zeros((1, 1, samples), dtype), icc_profile)
    return replace(pixel, **{**fields, "format": name})
