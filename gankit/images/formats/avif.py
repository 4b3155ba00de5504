"""AVIF: 8 bits through Pillow, 10 and 12 bits read through imagecodecs; the first frame, with profile, EXIF and XMP.

:mod:`gankit.images.frames` reads and writes all frames.
"""

from __future__ import annotations

import io
from dataclasses import replace
from typing import Any

import numpy as np
from PIL import AvifImagePlugin, Image

from gankit.images.decoded import DecodedImage, from_channels
from gankit.images.formats.base import UNLIMITED, Format, Header
from gankit.images.formats.boxes import brands
from gankit.images.metadata import read_exif, upright
from gankit.images.pillow import embedded, from_pil

_DEEP, _DEEPER = 0x40, 0x20  # high_bitdepth and twelve_bit in the third byte of the box av1C


def _open(data: bytes) -> AvifImagePlugin.AvifImageFile:
    return AvifImagePlugin.AvifImageFile(io.BytesIO(data))


def _read_header(data: bytes) -> Header:
    # The planes of the codec, the frame as RGBA, Pillow's copy of it, and the array.
    return Header(*_open(data).size, 18)


def sample_bits(data: bytes) -> int:
    """Bits of a sample: 8, 10 or 12."""
    at = data.find(b"av1C")
    flags = data[at + 6] if 0 <= at < len(data) - 6 else 0
    return (12 if flags & _DEEPER else 10) if flags & _DEEP else 8


def at_depth(samples: np.ndarray, bits: int, image: Image.Image, profile: bytes | None = None) -> DecodedImage:
    """Return an upright image of 16 bits.

    Args:
        samples: (H, W) or (H, W, 1 to 4) uint16, as the file has them.
        bits: their bits.
        image: the opened file.
        profile: the colour profile.
    """
    most = 2**bits - 1
    deep = ((samples.astype(np.uint32) * 65535 + most // 2) // most).astype(np.uint16)
    orientation, _ = read_exif(image.getexif())
    return from_channels(upright(deep, orientation), profile)


def _still(data: bytes) -> bytes:
    """Return an animation as the still image that it also is: imagecodecs cannot decode one frame of several."""
    return data[:8] + b"avif" + data[12:] if data[8:12] == b"avis" else data


def _decode(data: bytes) -> DecodedImage:
    image = _open(data)
    frames = image.n_frames
    image.load()
    decoded = from_pil(image)
    if (bits := sample_bits(data)) > 8:
        import imagecodecs

        samples = imagecodecs.avif_decode(_still(data), index=0)
        deep = at_depth(samples, bits, image, decoded.icc_profile)
        decoded = replace(decoded, pixels=deep.pixels, alpha=deep.alpha, gray=deep.gray)
    if frames > 1:
        decoded = replace(decoded, notes=(f"only the first of {frames} frames is used", *decoded.notes))
    return decoded


def encoding(image: DecodedImage, quality: int) -> dict[str, Any]:
    """Return the options with which Pillow encodes an image, without its metadata."""
    # Speed 8 takes less than a third of the default's time for 3 % more bytes (a Kodak image, quality 90).
    options: dict[str, Any] = {"quality": quality, "speed": 8}
    if not image.gray:  # as with JPEG, colours keep their full resolution from 90 on
        options["subsampling"] = "4:4:4" if quality >= 90 else "4:2:0"
    return options


def _encode(image: DecodedImage, quality: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image.channels()).save(buffer, "AVIF", **encoding(image, quality), **embedded(image))
    return buffer.getvalue()


FORMAT = Format(
    name="avif",
    title="AVIF",
    suffixes=(".avif", ".avifs"),
    matches=lambda data: not brands(data).isdisjoint((b"avif", b"avis")),
    header=_read_header,
    decode=_decode,
    encode=_encode,
    alpha=True,
    gray=True,
    icc=True,
    dpi=False,
    exif_bytes=UNLIMITED,
    xmp_bytes=UNLIMITED,
    max_side=65536,
    lossy=True,
)
