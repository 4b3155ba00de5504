"""EXIF: read the orientation, apply it, and keep the rest in a form that fits the new image."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import numpy as np
from PIL import ExifTags, Image, TiffImagePlugin

SUB_DIRECTORIES = (int(ExifTags.IFD.Exif), int(ExifTags.IFD.GPSInfo))
_INTEROPERABILITY = int(ExifTags.IFD.Interop)
_ORIENTATION = int(ExifTags.Base.Orientation)
_PIXEL_SIZES = (int(ExifTags.Base.ExifImageWidth), int(ExifTags.Base.ExifImageHeight))
# What describes the old file's layout (TIFF keeps it in the same directory) or repeats other fields of a DecodedImage.
_STRUCTURE = frozenset(
    {0x00FE, 0x00FF, 0x0100, 0x0101, 0x0102, 0x0103, 0x0106, 0x010A, 0x0111, 0x0115, 0x0116, 0x0117, 0x0118, 0x0119}
    | {0x011A, 0x011B, 0x011C, 0x0120, 0x0121, 0x0122, 0x0123, 0x0128, 0x013D, 0x0140, 0x0141, 0x0142, 0x0143}
    | {0x0144, 0x0145, 0x014A, 0x0150, 0x0152, 0x0153, 0x0154, 0x0155, 0x015B, 0x0200, 0x0201, 0x0202, 0x0203}
    | {0x0205, 0x0206, 0x0207, 0x0208, 0x0209, 0x0211, 0x0212, 0x0213, 0x0214, 0x02BC, 0x83BB, 0x8649, 0x8773, 0xCD41}
)


def read_exif(exif: Image.Exif, otherwise: int = 1) -> tuple[int, bytes | None]:
    r"""Split an EXIF block into the orientation and what is worth keeping.

    Cameras and editors write all kinds of broken blocks; what cannot be read, or written again, is left out.

    Args:
        exif: as Pillow reads it.
        otherwise: the orientation where the block states none.

    Returns:
        The orientation, 1 to 8, and a block beginning with ``b"Exif\0\0"`` whose orientation is 1, without
        thumbnail, pixel dimensions or file layout; None where nothing is left.
    """
    orientation = otherwise
    try:
        entries = _readable(exif)
        orientation = valid_orientation(entries.pop(_ORIENTATION, otherwise))
        main = {tag: value for tag, value in entries.items() if tag not in _STRUCTURE and tag not in SUB_DIRECTORIES}
        kept = Image.Exif()
        for tag, value in (_writable(main, None) | sub_directories(exif)).items():
            kept[tag] = value
        if not len(kept):
            return orientation, None
        kept[_ORIENTATION] = 1
        return orientation, kept.tobytes()
    except Exception:
        return orientation, None


def sub_directories(exif: Image.Exif) -> dict[int, dict[int, Any]]:
    """The Exif and GPS directories by the tag of their pointer, where they hold anything that can be written.

    Pixel dimensions are left out. The interoperability directory inside of Exif is an entry that is a ``dict``.
    """
    found = {}
    for directory in SUB_DIRECTORIES:
        try:
            entries = {tag: value for tag, value in exif.get_ifd(directory).items() if tag not in _PIXEL_SIZES}
            if entries.pop(_INTEROPERABILITY, None) is not None:  # the offset that it had in the old file
                inner = _writable(exif.get_ifd(_INTEROPERABILITY), _INTEROPERABILITY)
                if inner:
                    entries[_INTEROPERABILITY] = inner
        except Exception:
            continue
        entries = _writable(entries, directory)
        if entries:
            found[directory] = entries
    return found


def pack_directory(entries: Mapping[int, Any], group: int | None, offset: int = 0) -> bytes:
    """A directory, little-endian, as it stands at an offset of the file.

    Args:
        entries: by tag.
        group: the tag that points at the directory, ``None`` for the first one; it decides the types of the entries.
        offset: of the first byte.

    Raises:
        Exception: an entry that its type cannot hold (struct.error, TypeError, …).
    """
    directory = TiffImagePlugin.ImageFileDirectory_v2(ifh=b"II\x2a\x00\x00\x00\x00\x00", group=group)
    for tag, value in entries.items():
        directory[tag] = value
    return directory.tobytes(offset)


def _readable(exif: Image.Exif) -> dict[int, Any]:
    """The entries of the first directory that Pillow can parse."""
    entries = {}
    for tag in list(exif):
        with suppress(Exception):
            entries[tag] = exif[tag]
    return entries


def _writable(entries: Mapping[int, Any], group: int | None) -> dict[int, Any]:
    """The entries that Pillow can write; nearly always all."""
    if _packs(entries, group):
        return dict(entries)
    return {tag: value for tag, value in entries.items() if _packs({tag: value}, group)}


def _packs(entries: Mapping[int, Any], group: int | None) -> bool:
    try:
        pack_directory(entries, group)
    except Exception:
        return False
    return True


def parse_exif(block: bytes | None) -> Image.Exif:
    r"""A raw EXIF block (with or without ``b"Exif\0\0"``) as Pillow's mapping; empty where it cannot be read."""
    exif = Image.Exif()
    if block:
        try:
            exif.load(block)
        except Exception:
            return Image.Exif()
    return exif


def valid_orientation(orientation: object) -> int:
    """The orientation if it is one, else 1."""
    return orientation if isinstance(orientation, int) and 1 <= orientation <= 8 else 1


def upright(samples: np.ndarray, orientation: int) -> np.ndarray:
    """Turn samples as the EXIF orientation says.

    Args:
        samples: (H, W) or (H, W, C).
        orientation: 1 to 8 (CIPA DC-008, tag 0x0112); anything else counts as 1.

    Returns:
        A C-contiguous array; H and W change places for 5 to 8.
    """
    orientation = valid_orientation(orientation)
    if orientation >= 5:  # stored with rows and columns swapped
        samples = samples.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        samples = samples[::-1]
    if orientation in (2, 3, 6, 7):
        samples = samples[:, ::-1]
    return np.ascontiguousarray(samples)
