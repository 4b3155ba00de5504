"""HEIC, as phones write it: only read, by pillow-heif (the extra `heif`). Results become PNG."""

from __future__ import annotations

import io
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np
from PIL import Image

from gankit.images.decoded import DecodedImage, from_channels
from gankit.images.formats.base import Format, Header
from gankit.images.formats.boxes import brands
from gankit.images.metadata import read_exif
from gankit.images.xmp import read_xmp

_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx")
_MISSING = "a HEIC image needs pillow-heif: pip install 'gankit[heif]', or convert it to PNG, TIFF or JPEG first"


def _open(data: bytes) -> Any:
    """The file, its samples in 16 bits where they have more than 8.

    Raises:
        ValueError: pillow-heif is not installed.
    """
    try:
        import pillow_heif
    except ImportError:
        raise ValueError(_MISSING) from None
    return pillow_heif.open_heif(io.BytesIO(data), convert_hdr_to_8bit=False)


def _read_header(data: bytes) -> Header:
    # The planes of the codec, the frame as RGBA in 16 bits, and the array.
    width, height = _open(data).size
    return Header(width, height, 18)


def _decode(data: bytes) -> DecodedImage:
    file = _open(data)
    info = file.info
    samples = np.ascontiguousarray(np.asarray(file))
    icc_profile = info.get("icc_profile") or None
    exif = Image.Exif()
    if info.get("exif"):
        exif.load(info["exif"])
    _, kept = read_exif(exif)  # libheif has turned the image already
    xmp, notes = read_xmp(info.get("xmp") or None)
    return replace(from_channels(samples, icc_profile), exif=kept, xmp=xmp, notes=(*_left_out(len(file), info), *notes))


def _left_out(images: int, info: dict[str, Any]) -> Iterable[str]:
    """What a HEIC may hold beside its main image."""
    if images > 1:
        yield f"only the main one of {images} images is used"
    if any("gainmap" in kind.lower() for kind in info.get("aux", {})):
        yield "the gain map is dropped"


FORMAT = Format(
    name="heic",
    title="HEIC",
    suffixes=(".heic", ".heif", ".hif"),
    matches=lambda data: not brands(data).isdisjoint(_BRANDS),
    header=_read_header,
    decode=_decode,
)
