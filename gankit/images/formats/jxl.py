"""JPEG XL, by pillow-jxl-plugin and imagecodecs (the extra `jxl`): with profile, EXIF and XMP."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from PIL import Image

from gankit.images.decoded import DecodedImage, from_channels
from gankit.images.formats import jpeg
from gankit.images.formats.base import UNLIMITED, Format, Header
from gankit.images.metadata import read_exif
from gankit.images.xmp import read_xmp

_MISSING = (
    "a JPEG XL image needs pillow-jxl-plugin: pip install 'gankit[jxl]', or convert it to PNG, TIFF or JPEG first"
)
_SIGNATURES = (b"\xff\x0a", b"\0\0\0\x0cJXL \x0d\x0a\x87\x0a")


def _plugin() -> Any:
    """The plugin, which also teaches Pillow to save JPEG XL.

    Raises:
        ValueError: it is not installed.
    """
    try:
        import pillow_jxl
    except ImportError:
        raise ValueError(_MISSING) from None
    return pillow_jxl


class _Bits:
    """Reads a stream from the least significant bit of its first byte on."""

    def __init__(self, data: bytes) -> None:
        self._bits, self._at, self._length = int.from_bytes(data, "little"), 0, 8 * len(data)

    def take(self, count: int) -> int:
        """The next bits as a number."""
        if self._at + count > self._length:
            raise ValueError("the file ends within its header; it is truncated")
        value = self._bits >> self._at & (1 << count) - 1
        self._at += count
        return value

    def side(self) -> int:
        """A side as the size header of ISO/IEC 18181-1 stores it."""
        return 1 + self.take((9, 13, 18, 30)[self.take(2)])


_RATIOS = ((1, 1), (12, 10), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1))


def _size(codestream: bytes) -> tuple[int, int]:
    """Width and height that a code stream declares (ISO/IEC 18181-1, SizeHeader)."""
    bits = _Bits(codestream[2:14])
    small = bits.take(1)
    height = 8 * (1 + bits.take(5)) if small else bits.side()
    ratio = bits.take(3)
    if ratio:
        over, under = _RATIOS[ratio - 1]
        return height * over // under, height
    return (8 * (1 + bits.take(5)) if small else bits.side()), height


def _codestream(data: bytes) -> bytes:
    """The beginning of the code stream: the file itself, or in a box of it."""
    if data.startswith(_SIGNATURES[0]):
        return data
    at = 0
    while at + 8 <= len(data):
        size, kind, head = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8], 8
        if size == 1:
            size, head = int.from_bytes(data[at + 8 : at + 16], "big"), 16
        if kind in (b"jxlc", b"jxlp"):
            return data[at + head + 4 * (kind == b"jxlp") :]
        if size < head:
            break
        at += size
    raise ValueError("the file ends before its pixels do; it is truncated")


def _read_header(data: bytes) -> Header:
    _plugin()
    # libjxl's planes in float32, its result, and the array in 16 bits.
    return Header(*_size(_codestream(data)), 30)


def _decode(data: bytes) -> DecodedImage:
    was_jpeg, _, stored, icc_profile, boxes = _plugin().Decoder(num_threads=1)(data)
    if was_jpeg:
        return jpeg.FORMAT.decode(bytes(stored))
    import imagecodecs

    samples = imagecodecs.jpegxl_decode(data, index=0)  # upright
    notes: list[str] = []
    if samples.dtype.kind == "f":
        samples = np.rint(np.clip(samples, 0, 1) * 65535).astype(np.uint16)
        notes.append("floating-point values were cut to 0…1 and stored in 16 bits")
    content: Mapping[bytes, bytes] = {bytes(box.box_type): bytes(box.data) for box in boxes}
    exif = Image.Exif()
    if block := content.get(b"Exif"):
        exif.load(block[4:] if block[4:8] in (b"II\x2a\0", b"MM\0\x2a") else block)
    _, kept = read_exif(exif)
    xmp, more = read_xmp(content.get(b"xml "))
    own = icc_profile if icc_profile and not _is_default(icc_profile) else None
    decoded = from_channels(samples, own)
    return replace(decoded, exif=kept, xmp=xmp, notes=(*notes, *more))


def _is_default(profile: bytes) -> bool:
    """Whether libjxl made the profile of an image that has none: sRGB, or gray with sRGB's curve."""
    return any(name.encode("utf-16-be") in profile for name in ("sRGB", "Gra_D65_Rel_SRG"))


def _encode(image: DecodedImage, quality: int) -> bytes:
    _plugin()
    buffer = io.BytesIO()
    exif = image.exif and image.exif.removeprefix(b"Exif\0\0")
    options = {name: value for name, value in (("exif", exif), ("xmp", image.xmp)) if value}
    pixels = Image.fromarray(image.channels())
    pixels.save(buffer, "JXL", quality=quality, effort=4, num_threads=1, use_container=bool(options), **options)
    return buffer.getvalue()


FORMAT = Format(
    name="jxl",
    title="JPEG XL",
    suffixes=(".jxl",),
    matches=lambda data: data.startswith(_SIGNATURES),
    header=_read_header,
    decode=_decode,
    encode=_encode,
    alpha=True,
    dpi=False,
    exif_bytes=UNLIMITED,
    xmp_bytes=UNLIMITED,
    lossy=True,
)
