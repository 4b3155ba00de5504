"""EXIF: read the orientation, apply it, and keep the rest in a block that fits the new picture."""

from __future__ import annotations

import numpy as np
from PIL import ExifTags, Image

_ORIENTATION = int(ExifTags.Base.Orientation)
_PIXEL_SIZES = (int(ExifTags.Base.ExifImageWidth), int(ExifTags.Base.ExifImageHeight))
# What describes the old file's layout (TIFF keeps it in the same directory) or repeats other fields of a Picture.
_STRUCTURE = frozenset(
    {0x00FE, 0x00FF, 0x0100, 0x0101, 0x0102, 0x0103, 0x0106, 0x010A, 0x0111, 0x0115, 0x0116, 0x0117, 0x0118, 0x0119}
    | {0x011A, 0x011B, 0x011C, 0x0120, 0x0121, 0x0122, 0x0123, 0x0128, 0x013D, 0x0140, 0x0141, 0x0142, 0x0143}
    | {0x0144, 0x0145, 0x014A, 0x0150, 0x0152, 0x0153, 0x0154, 0x0155, 0x015B, 0x0200, 0x0201, 0x0202, 0x0203}
    | {0x0205, 0x0206, 0x0207, 0x0208, 0x0209, 0x0211, 0x0212, 0x0213, 0x0214, 0x02BC, 0x8649, 0x8773}
)


def read_exif(exif: Image.Exif) -> tuple[int, bytes | None]:
    r"""Split an EXIF block into the orientation and what is worth keeping.

    Args:
        exif: as Pillow reads it; a broken one gives orientation 1 and None.

    Returns:
        The orientation, 1 to 8, and a block beginning with ``b"Exif\0\0"`` whose orientation is 1, without
        thumbnail, pixel dimensions or file layout; None where nothing is left.
    """
    try:
        orientation = exif.get(_ORIENTATION, 1)
        kept = Image.Exif()
        for tag, value in exif.items():
            if tag not in _STRUCTURE and tag not in (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo, _ORIENTATION):
                kept[tag] = value
        for ifd in (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo):
            entries = {k: v for k, v in exif.get_ifd(ifd).items() if k not in _PIXEL_SIZES}
            if entries:
                kept[ifd] = entries
        if not len(kept):
            return _valid(orientation), None
        kept[_ORIENTATION] = 1
        return _valid(orientation), kept.tobytes()
    except Exception:
        # Cameras and editors write all kinds of broken blocks; a picture is worth more than its EXIF.
        return 1, None


def parse_exif(block: bytes | None) -> Image.Exif:
    r"""A raw EXIF block (with or without ``b"Exif\0\0"``) as Pillow's mapping; empty where it cannot be read."""
    exif = Image.Exif()
    if block:
        try:
            exif.load(block)
        except Exception:
            return Image.Exif()
    return exif


def _valid(orientation: object) -> int:
    return orientation if isinstance(orientation, int) and 1 <= orientation <= 8 else 1


def upright(samples: np.ndarray, orientation: int) -> np.ndarray:
    """Turn samples as the EXIF orientation says.

    Args:
        samples: (H, W) or (H, W, C).
        orientation: 1 to 8 (CIPA DC-008, tag 0x0112).

    Returns:
        A C-contiguous array; H and W change places for 5 to 8.
    """
    if orientation >= 5:  # stored with rows and columns swapped
        samples = samples.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        samples = samples[::-1]
    if orientation in (2, 3, 6, 7):
        samples = samples[:, ::-1]
    return np.ascontiguousarray(samples)
