"""JPEG, through Pillow: only complete images, with profile, EXIF, XMP, IPTC and comment."""

from __future__ import annotations

import io
import struct
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from PIL import Image, JpegImagePlugin

from gankit.images.cmyk import to_inks
from gankit.images.decoded import DecodedImage
from gankit.images.formats.base import Format, Header
from gankit.images.iptc import pack_resources, read_resources
from gankit.images.jpeg_stream import open_jpeg, open_whole
from gankit.images.pillow import from_pil
from gankit.images.xmp import GAIN_MAP, MANIFEST

_Segments = Sequence[tuple[int, bytes]]

_APP2, _APP11, _APP13 = 0xE2, 0xEB, 0xED
_PHOTOSHOP = b"Photoshop 3.0\0"
_ISO_GAIN_MAP = b"urn:iso:std:iso:ts:21496:-1\0"
_LARGEST = 65533  # a segment's length is 16 bits
_XMP_HEADER = b"http://ns.adobe.com/xap/1.0/\0"
FULL_COLOUR = 90  # the quality from which on colours keep their full resolution
# Bytes per pixel by Pillow's mode: its own memory (4 for all colours), the array and a copy of it, then the result.
_BYTES = {"L": 6, "RGB": 10, "CMYK": 14}


def _read_header(data: bytes) -> Header:
    image = open_jpeg(data)
    return Header(*image.size, _BYTES.get(image.mode, 14))


def _decode(data: bytes) -> DecodedImage:
    image, stream = open_whole(data)
    decoded = from_pil(image)
    if stream is None:
        return decoded
    return replace(decoded, **_of_segments(stream.segments, decoded.notes))


def parts_metadata(image: JpegImagePlugin.JpegImageFile, notes: tuple[str, ...]) -> dict[str, Any]:
    """Return the IPTC record and the notes of a JPEG whose pixels are not loaded, as fields of a DecodedImage.

    Args:
        image: as Pillow opens it.
        notes: those that are known already.
    """
    segments = [(0xE0 + int(name[3:]), body) for name, body in image.applist if name.startswith("APP")]
    return _of_segments(segments, notes)


def _of_segments(segments: _Segments, notes: tuple[str, ...]) -> dict[str, Any]:
    known = (*_frames(segments), *notes, *_parts(segments))
    return {"iptc": _iptc(segments), "notes": tuple(dict.fromkeys(known))}


def _iptc(segments: _Segments) -> bytes | None:
    """The record in the Photoshop segments, which continue each other."""
    parts = [body[len(_PHOTOSHOP) :] for marker, body in segments if marker == _APP13 and body.startswith(_PHOTOSHOP)]
    return read_resources(b"".join(parts))


def _parts(segments: _Segments) -> list[str]:
    """Notes on parts of the file that have segments of their own."""
    notes = []
    if any(marker == _APP2 and body.startswith(_ISO_GAIN_MAP) for marker, body in segments):
        notes.append(GAIN_MAP)
    if any(marker == _APP11 and body.startswith(b"JP") and b"c2pa" in body for marker, body in segments):
        notes.append(MANIFEST)
    return notes


def _frames(segments: _Segments) -> list[str]:
    """A note on further images of the same rank (CIPA DC-007, "multi-picture format"): no previews, no gain maps."""
    block = next((body[4:] for marker, body in segments if marker == _APP2 and body.startswith(b"MPF\0")), b"")
    order = "<" if block.startswith(b"II") else ">"
    try:
        (at,) = struct.unpack_from(f"{order}I", block, 4)
        (count,) = struct.unpack_from(f"{order}H", block, at)
        for index in range(count):
            tag, _, size, place = struct.unpack_from(f"{order}HHII", block, at + 2 + 12 * index)
            if tag == 0xB002:
                kinds = [
                    struct.unpack_from(f"{order}I", block, place + 16 * one)[0] >> 16 & 0xFF
                    for one in range(size // 16)
                ]
                frames = sum(kind == 2 for kind in kinds[1:])  # panorama, stereo, several angles
                return [f"only the first of {frames + 1} frames is used"] if frames else []
    except struct.error:
        pass
    return []


def photoshop_segment(iptc: bytes) -> bytes:
    """Return the body of the segment that holds an IPTC record."""
    return _PHOTOSHOP + pack_resources(iptc)


def _encode(image: DecodedImage, quality: int) -> bytes:
    buffer = io.BytesIO()
    options: dict[str, object] = {"quality": quality, "subsampling": 0 if quality >= FULL_COLOUR else 2}
    pixels = Image.fromarray(image.channels())
    if image.cmyk_profile:
        pixels = Image.fromarray(to_inks(image.pixels, image.cmyk_profile), "CMYK")
        options |= {"icc_profile": image.cmyk_profile, "subsampling": 0}  # each ink has its details
    if image.dpi:
        options["dpi"] = tuple(min(max(round(value), 1), 65535) for value in image.dpi)
    for name in ("icc_profile", "exif", "xmp", "comment"):
        if value := getattr(image, name):
            options[name] = value
    if image.iptc:
        body = photoshop_segment(image.iptc)
        options["extra"] = struct.pack(">BBH", 0xFF, _APP13, len(body) + 2) + body
    pixels.save(buffer, "JPEG", **options)
    return buffer.getvalue()


FORMAT = Format(
    name="jpeg",
    title="JPEG",
    suffixes=(".jpg", ".jpeg", ".jpe", ".jfif"),
    aliases=("jpg",),
    matches=lambda data: data.startswith(b"\xff\xd8\xff"),
    header=_read_header,
    decode=_decode,
    encode=_encode,
    icc=True,
    cmyk=True,
    exif_bytes=_LARGEST,
    xmp_bytes=_LARGEST - len(_XMP_HEADER),
    iptc_bytes=_LARGEST - len(_PHOTOSHOP) - 13,
    comment_bytes=_LARGEST,
    max_side=65500,
    lossy=True,
)
