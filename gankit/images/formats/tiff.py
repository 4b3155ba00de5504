"""TIFF: 1 to 16 bits and floating point, with profile, EXIF, XMP, IPTC and resolution.

``gankit.images.tiff_file`` reads it and ``tiff_write`` writes it. They are imported with the first TIFF, because they
import tifffile and imagecodecs, and the command line needs the names of the formats alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gankit.images.formats.base import UNLIMITED, Format, Header

if TYPE_CHECKING:
    from gankit.images.decoded import DecodedImage

_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def _header(data: bytes) -> Header:
    from gankit.images.tiff_file import tiff_header

    return tiff_header(data)


def _decode(data: bytes) -> DecodedImage:
    from gankit.images.tiff_file import decode_tiff

    return decode_tiff(data)


def _encode(image: DecodedImage, quality: int) -> bytes:
    from gankit.images.tiff_write import encode_tiff

    return encode_tiff(image)


FORMAT = Format(
    name="tiff",
    title="TIFF",
    suffixes=(".tiff", ".tif"),
    aliases=("tif",),
    matches=lambda data: data.startswith(_MAGIC),
    header=_header,
    decode=_decode,
    encode=_encode,
    hdr=True,
    sixteen_bit=True,
    alpha=True,
    icc=True,
    cmyk=True,
    exif_bytes=UNLIMITED,
    xmp_bytes=UNLIMITED,
    iptc_bytes=UNLIMITED,
    max_side=(1 << 32) - 1,
)
