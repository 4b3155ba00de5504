"""PNG: a fast writer, and the chunks that the pixel decoder leaves aside.

Why a writer of our own. Pillow's default takes longer for one 3072×2048 image than the network that made it, since
it tries five filters on each row and searches matches at level 6. Here every row takes the filter "up", which NumPy
applies to a strip of rows at once, and ISA-L deflates it: about 40 times less CPU time for files about a tenth larger.
Choosing between filters (by the sum of differences, by entropy, by trial) gained 2 % at best and lost 20 % at worst:
images that a network has enlarged repeat from row to row. ``bench/test_png.py`` has the table.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

import imagecodecs
import numpy as np
from isal import isal_zlib

from gankit.images.decoded import DecodedImage

SIGNATURE = b"\x89PNG\r\n\x1a\n"
_STRIP = 64  # rows filtered at once: small enough for the cache, large enough that Python's overhead vanishes
_UP = 2  # the filter type
_LEVEL = 2  # ISA-L's 1 is 3 % faster and 1 % larger, its 3 is slower and often larger
_MAX_INFLATED = 16 << 20  # real colour profiles reach about 4 MB; more is a decompression bomb
_COLOUR_TYPES = {1: 0, 2: 4, 3: 2, 4: 6}
_COLOUR_SIZES = {b"cICP": 4, b"sRGB": 1, b"gAMA": 4, b"cHRM": 32}
_XMP_KEYWORD = b"XML:com.adobe.xmp\0"
_METADATA = frozenset({b"iCCP", b"eXIf", b"pHYs", b"iTXt", *_COLOUR_SIZES})


@dataclass(frozen=True)
class PngInfo:
    """What a PNG says beside its pixels.

    Args:
        width: pixels a row.
        height: rows.
        icc_profile: of the iCCP chunk, inflated.
        exif: of the eXIf chunk, raw.
        dpi: of the pHYs chunk.
        xmp: of the iTXt chunk that has it, inflated.
        colour: the cICP, sRGB, gAMA and cHRM chunks, as (name, body).
    """

    width: int
    height: int
    icc_profile: bytes | None
    exif: bytes | None
    dpi: tuple[float, float] | None
    xmp: bytes | None
    colour: tuple[tuple[bytes, bytes], ...]


def read_info(data: bytes) -> PngInfo:
    """Walk the chunks without touching the pixels.

    Args:
        data: the whole file.

    Returns:
        Size and metadata; damaged metadata is left out.

    Raises:
        ValueError: the header is missing or damaged.
    """
    if len(data) < 33 or data[12:16] != b"IHDR" or _crc(data[12:29]) != int.from_bytes(data[29:33], "big"):
        raise ValueError("the PNG header is damaged")
    width, height = struct.unpack(">II", data[16:24])
    icc_profile = exif = dpi = xmp = None
    colour: dict[bytes, bytes] = {}
    for name, body in _chunks(data):
        if name == b"iCCP":
            icc_profile = _inflate_profile(body)
        elif name == b"eXIf":
            exif = body
        elif name == b"pHYs" and len(body) == 9 and body[8] == 1:
            x, y = struct.unpack(">II", body[:8])
            dpi = (x * 0.0254, y * 0.0254) if x and y else None
        elif name == b"iTXt" and body.startswith(_XMP_KEYWORD):
            xmp = _text(body[len(_XMP_KEYWORD) :])
        elif len(body) == _COLOUR_SIZES.get(name):
            colour.setdefault(name, body)
    return PngInfo(width, height, icc_profile, exif, dpi, xmp, tuple(colour.items()))


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Each whole metadata chunk's name and body; pixel data is stepped over, not copied."""
    at = len(SIGNATURE)
    while at + 12 <= len(data):
        size = int.from_bytes(data[at : at + 4], "big")
        name = data[at + 4 : at + 8]
        if name in _METADATA:
            body = data[at + 8 : at + 8 + size]
            if _crc(name + body) == int.from_bytes(data[at + 8 + size : at + 12 + size], "big"):
                yield name, body
        at += size + 12


def _inflate_profile(body: bytes) -> bytes | None:
    end = body.find(b"\0")
    return _inflate(body[end + 2 :]) if 0 < end < 80 else None


def _text(body: bytes) -> bytes | None:
    """The text of an iTXt chunk behind its keyword: two flags, language, translated keyword, text."""
    parts = body[2:].split(b"\0", 2)
    if len(parts) < 3:
        return None
    return _inflate(parts[2]) if body[0] else parts[2]


def _inflate(data: bytes) -> bytes | None:
    try:
        inflater = zlib.decompressobj()
        content = inflater.decompress(data, _MAX_INFLATED)
    except zlib.error:
        return None
    return content if inflater.eof else None


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
    samples: np.ndarray = imagecodecs.png_decode(data)
    return samples


def encode_png(image: DecodedImage) -> bytes:
    """Encode with all metadata of the image.

    Args:
        image: uint8 or uint16, gray or RGB, with or without alpha.

    Returns:
        The file.
    """
    samples = image.channels()
    height, width = samples.shape[:2]
    count = 1 if samples.ndim == 2 else samples.shape[2]
    rows = samples.reshape(height, width * count)
    header = struct.pack(">IIBBBBB", width, height, samples.itemsize * 8, _COLOUR_TYPES[count], 0, 0, 0)
    parts = [SIGNATURE, _chunk(b"IHDR", header)]
    parts += [_chunk(name, body) for name, body in image.png_colour]
    if image.icc_profile:
        parts.append(_chunk(b"iCCP", b"ICC Profile\0\0" + zlib.compress(image.icc_profile)))
    if image.dpi:
        x, y = (min(max(round(value / 0.0254), 0), 2**31 - 1) for value in image.dpi)
        parts.append(_chunk(b"pHYs", struct.pack(">IIB", x, y, 1)))
    if image.exif:
        parts.append(_chunk(b"eXIf", image.exif.removeprefix(b"Exif\0\0")))
    if image.xmp:
        parts.append(_chunk(b"iTXt", _XMP_KEYWORD + bytes(4) + image.xmp))
    parts += [_chunk(b"IDAT", part) for part in _deflate(rows)]
    parts.append(_chunk(b"IEND", b""))
    return b"".join(parts)


def _chunk(name: bytes, body: bytes) -> bytes:
    body = name + body
    return b"".join((struct.pack(">I", len(body) - 4), body, struct.pack(">I", _crc(body))))


def _crc(data: bytes) -> int:
    return int(isal_zlib.crc32(data))


def _deflate(rows: np.ndarray) -> Iterator[bytes]:
    """Filter and compress strip by strip.

    Args:
        rows: (H, B) uint8 or uint16, each row's samples.

    Yields:
        Pieces of one zlib stream, none empty.
    """
    height, width = len(rows), rows.shape[1] * rows.itemsize
    deflater = isal_zlib.compressobj(level=_LEVEL)
    out = np.empty((min(_STRIP, height), width + 1), np.uint8)
    out[:, 0] = _UP
    for top in range(0, height, _STRIP):
        strip = out[: min(_STRIP, height - top)]
        residual = strip[:, 1:]
        before = 1 if top else 0
        data = rows[top - before : top + _STRIP]
        if data.dtype == np.uint16:
            data = data.astype(">u2").view(np.uint8)
        if not top:
            residual[0] = data[0]
        np.subtract(data[1:], data[:-1], out=residual[1 - before :])
        if piece := deflater.compress(strip):
            yield piece
    yield deflater.flush()
