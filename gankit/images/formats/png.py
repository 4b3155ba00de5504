"""PNG: a fast writer, and the metadata that the pixel decoder leaves aside.

Why a writer of our own. Pillow's default takes longer for one 3072×2048 image than the network that made it, since
it tries five filters on each row and searches matches at level 6. Here every row takes the filter "up", which NumPy
applies to a strip of rows at once, and ISA-L deflates it: about 40 times less CPU time for files about a tenth larger.
Choosing between filters (by the sum of differences, by entropy, by trial) gained 2 % at best and lost 20 % at worst:
images that a network has enlarged repeat from row to row. ``bench/test_png.py`` has the table.
"""

from __future__ import annotations

import io
import mmap
import struct
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from PIL import Image

from gankit.images.decoded import DecodedImage, from_channels
from gankit.images.formats.base import UNLIMITED, Format, Header
from gankit.images.metadata import parse_exif, read_exif, upright
from gankit.images.png_text import TEXT_CHUNKS, inflate, read_text, text_chunks
from gankit.images.xmp import MANIFEST, read_xmp, xmp_orientation

SIGNATURE = b"\x89PNG\r\n\x1a\n"
_STRIP = 64  # rows filtered at once: small enough for the cache, large enough that Python's overhead vanishes
_UP = 2  # the filter type
LEVEL = 2  # ISA-L's 1 is 3 % faster and 1 % larger, its 3 is slower and often larger
_COLOUR_TYPES = {1: 0, 2: 4, 3: 2, 4: 6}
# Bytes per pixel by colour type: the samples, then colours and alpha, or a copy that stands upright.
_BYTES = {0: 6, 2: 6, 3: 8, 4: 6, 6: 8}
_COLOUR_SIZES = {b"cICP": 4, b"sRGB": 1, b"gAMA": 4, b"cHRM": 32}
_READ = frozenset({b"iCCP", b"eXIf", b"pHYs", b"acTL", b"caBX", *TEXT_CHUNKS, *_COLOUR_SIZES})


def _read_header(data: bytes) -> Header:
    """Size, depth and kind of the pixels.

    Raises:
        ValueError: the header is missing or damaged.
    """
    if len(data) < 33 or data[12:16] != b"IHDR" or _crc(data[12:29]) != int.from_bytes(data[29:33], "big"):
        raise ValueError("the PNG header is damaged")
    width, height, depth, colour_type = struct.unpack(">IIBB", data[16:26])
    return Header(width, height, (2 if depth == 16 else 1) * _BYTES.get(colour_type, 8))


def _decode(data: bytes) -> DecodedImage:
    """Decode the pixels and read all metadata; damaged metadata is left out."""
    orientation, icc_profile, fields = metadata(data)
    return replace(from_channels(upright(decode_pixels(data), orientation), icc_profile), **fields)


def metadata(data: bytes | mmap.mmap) -> tuple[int, bytes | None, dict[str, Any]]:
    """Read the orientation, the colour profile, and the other fields of a :class:`DecodedImage` from the chunks.

    Args:
        data: the whole file. Its pixels are not read.
    """
    info: dict[bytes, bytes] = {}
    text: list[tuple[bytes, bytes]] = []
    for name, body in _chunks(data):
        if name in TEXT_CHUNKS:
            text.append((name, body))
        elif len(body) == _COLOUR_SIZES.get(name, len(body)):
            info.setdefault(name, body)
    found = read_text(text)
    xmp, notes = read_xmp(found.xmp)
    if b"caBX" in info:
        notes = (*notes, MANIFEST)
    orientation, exif = read_exif(parse_exif(info.get(b"eXIf", found.exif)), xmp_orientation(found.xmp))
    fields: dict[str, Any] = {
        "exif": exif,
        "dpi": _dpi(info.get(b"pHYs", b"")),
        "xmp": xmp,
        "iptc": found.iptc,
        "png_colour": tuple((name, body) for name, body in info.items() if name in _COLOUR_SIZES),
        "png_text": found.kept,
        "notes": (*_frames(data, info.get(b"acTL", b"")), *dict.fromkeys(notes)),
    }
    return orientation, _profile(info.get(b"iCCP", b"")), fields


def _chunks(data: bytes | mmap.mmap) -> Iterator[tuple[bytes, bytes]]:
    """Each whole metadata chunk's name and body; pixel data is stepped over, not copied."""
    at = len(SIGNATURE)
    while at + 12 <= len(data):
        size = int.from_bytes(data[at : at + 4], "big")
        name = data[at + 4 : at + 8]
        if name in _READ:
            body = data[at + 8 : at + 8 + size]
            if _crc(name + body) == int.from_bytes(data[at + 8 + size : at + 12 + size], "big"):
                yield name, body
        at += size + 12


def _profile(body: bytes) -> bytes | None:
    """The colour profile in an iCCP chunk: a name, a method and a zlib stream."""
    end = body.find(b"\0")
    return inflate(body[end + 2 :]) if 0 < end < 80 else None


def _dpi(body: bytes) -> tuple[float, float] | None:
    """Pixels per inch of a pHYs chunk, if its unit is the metre."""
    if len(body) != 9 or body[8] != 1:
        return None
    x, y = struct.unpack(">II", body[:8])
    return (x * 0.0254, y * 0.0254) if x and y else None


def _frames(data: bytes | mmap.mmap, control: bytes) -> tuple[str, ...]:
    """A note on an animation (APNG), by its acTL chunk."""
    count = int.from_bytes(control[:4], "big")
    if count < 2:
        return ()
    pixels, frame = data.find(b"IDAT"), data.find(b"fcTL")
    if 0 <= frame < pixels:
        return (f"only the first of {count} frames is used",)
    return (f"only the still image is used, not the {count} frames of the animation",)


def decode_pixels(data: bytes) -> np.ndarray:
    """Decode a PNG of any colour type, depth and interlacing.

    Args:
        data: the whole file; the caller has checked its size.

    Returns:
        (H, W) gray, (H, W, 2) gray and alpha, (H, W, 3) RGB or (H, W, 4) RGBA, uint8 (1 to 8 bits, scaled to full
        range) or uint16. A palette is RGB, a transparent colour (tRNS) becomes alpha.

    Raises:
        Exception: the file is damaged or ends early.
    """
    try:
        import imagecodecs  # here, because the command line knows the formats before it knows whether it needs any
    except ImportError:
        return _pillow_pixels(data)
    samples: np.ndarray = imagecodecs.png_decode(data)
    return samples


def _pillow_pixels(data: bytes) -> np.ndarray:
    """As :func:`decode_pixels`, where imagecodecs is not installed. Pillow keeps 16 bit of gray images only.

    Raises:
        ValueError: 16 bit in colour.
    """
    if data[24] == 16 and data[25] != 0:
        raise ValueError("PNG of 16 bit in colour, which imagecodecs reads: pip install imagecodecs")
    with Image.open(io.BytesIO(data), formats=("PNG",)) as image:
        if image.mode == "1":
            return np.asarray(image.convert("L"))
        if "transparency" in image.info:
            return np.asarray(image.convert("LA" if image.mode == "L" else "RGBA"))
        if image.mode == "P":
            return np.asarray(image.convert("RGB"))
        pixels = np.asarray(image)
        return pixels.astype(np.uint16) if image.mode.startswith("I") else pixels


def encode_png(image: DecodedImage) -> bytes:
    """Encode with all metadata of the image.

    Args:
        image: uint8 or uint16, gray or RGB, with or without alpha.

    Returns:
        The file.
    """
    samples = image.channels()
    parts = [SIGNATURE, *head_chunks(image)]
    parts += [chunk(b"IDAT", part) for part in pixel_data(samples)]
    parts.append(chunk(b"IEND", b""))
    return b"".join(parts)


def write_png_rows(
    image: DecodedImage, size: tuple[int, int], rows: Iterable[np.ndarray], write: Callable[[bytes], object]
) -> None:
    """Encode rows that arrive one strip after the other, as :func:`encode_png` does for a whole image.

    Args:
        image: says what the pixels are and holds the metadata; its own pixels are not used.
        size: width and height of the result in pixels.
        rows: arrays (n, W) or (n, W, C) in the layout and dtype of ``image.channels()``, from the top.
        write: writes bytes to the file.
    """
    for part in (SIGNATURE, *head_chunks(image, size)):
        write(part)
    deflater = _Deflater(size[0] * image.pixels.itemsize * image.samples)
    for strip in rows:
        flat = strip.reshape(len(strip), -1)
        for top in range(0, len(flat), _STRIP):
            if piece := deflater.compress(flat[top : top + _STRIP]):
                write(chunk(b"IDAT", piece))
    write(chunk(b"IDAT", deflater.finish()))
    write(chunk(b"IEND", b""))


def head_chunks(image: DecodedImage, size: tuple[int, int] | None = None) -> list[bytes]:
    """Return the header and the metadata: all chunks between the signature and the pixels.

    Args:
        image: the image.
        size: width and height in pixels, if they are not those of the image.
    """
    width, height = size or (image.pixels.shape[1], image.pixels.shape[0])
    header = struct.pack(">IIBBBBB", width, height, image.pixels.itemsize * 8, _COLOUR_TYPES[image.samples], 0, 0, 0)
    parts = [chunk(b"IHDR", header)]
    parts += [chunk(name, body) for name, body in image.png_colour]
    if image.icc_profile:
        parts.append(chunk(b"iCCP", b"ICC Profile\0\0" + zlib.compress(image.icc_profile)))
    if image.dpi:
        x, y = (min(max(round(value / 0.0254), 0), 2**31 - 1) for value in image.dpi)
        parts.append(chunk(b"pHYs", struct.pack(">IIB", x, y, 1)))
    if image.exif:
        parts.append(chunk(b"eXIf", image.exif.removeprefix(b"Exif\0\0")))
    return parts + [chunk(name, body) for name, body in text_chunks(image)]


def chunk(name: bytes, body: bytes) -> bytes:
    """Return a chunk with its length and checksum."""
    body = name + body
    return b"".join((struct.pack(">I", len(body) - 4), body, struct.pack(">I", _crc(body))))


def pixel_data(samples: np.ndarray) -> Iterator[bytes]:
    """Yield the pieces of the zlib stream of samples, (H, W) or (H, W, C)."""
    return _deflate(samples.reshape(len(samples), -1))


def codec() -> Any:
    """What deflates: ISA-L, imported when it is needed; zlib, which is slower, where it is not installed."""
    try:
        from isal import isal_zlib
    except ImportError:
        return zlib
    return isal_zlib


def _crc(data: bytes) -> int:
    return int(codec().crc32(data))


def _deflate(rows: np.ndarray) -> Iterator[bytes]:
    """Filter and compress strip by strip.

    Args:
        rows: (H, B) uint8 or uint16, each row's samples.

    Yields:
        Pieces of one zlib stream, none empty.
    """
    deflater = _Deflater(rows.shape[1] * rows.itemsize)
    for top in range(0, len(rows), _STRIP):
        if piece := deflater.compress(rows[top : top + _STRIP]):
            yield piece
    yield deflater.finish()


class _Deflater:
    """Filters and compresses rows to one zlib stream.

    Args:
        width: bytes of a row.
    """

    def __init__(self, width: int) -> None:
        self._codec = codec().compressobj(level=LEVEL)
        self._last = np.zeros(width, np.uint8)  # above the first row, a PNG counts zeros
        self._out = np.empty((_STRIP, width + 1), np.uint8)
        self._out[:, 0] = _UP

    def compress(self, rows: np.ndarray) -> bytes:
        """Compress up to 64 rows (n, B) of uint8 or uint16; return what is complete of the stream."""
        data = rows.astype(">u2").view(np.uint8) if rows.dtype == np.uint16 else rows
        strip = self._out[: len(data)]
        np.subtract(data[0], self._last, out=strip[0, 1:])
        np.subtract(data[1:], data[:-1], out=strip[1:, 1:])
        self._last[:] = data[-1]
        return bytes(self._codec.compress(strip))

    def finish(self) -> bytes:
        """Return the end of the stream."""
        return bytes(self._codec.flush())


FORMAT = Format(
    name="png",
    title="PNG",
    suffixes=(".png",),
    read_only=(".apng",),
    matches=lambda data: data.startswith(SIGNATURE),
    header=_read_header,
    decode=_decode,
    encode=lambda image, quality: encode_png(image),
    sixteen_bit=True,
    alpha=True,
    icc=True,
    png_colour=True,
    exif_bytes=UNLIMITED,
    xmp_bytes=UNLIMITED,
    iptc_bytes=UNLIMITED,
    text=True,
    comment_bytes=UNLIMITED,
    max_side=(1 << 31) - 1,
)
