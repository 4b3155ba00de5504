"""The parts of a GIF: palettes, compressed images, and what stands between them."""

from __future__ import annotations

import io
import struct

import numpy as np
from PIL import Image

from gankit.images.decoded import DecodedImage
from gankit.images.jpeg_stream import TRUNCATED

_COLOURS = 256
_OPAQUE_FROM = 128
TRAILER = b";"
KEEP, CLEAR = 1, 2
"""What happens to an image of a GIF when its time is over."""


def header(width: int, height: int, *, plays: int = 1, comment: bytes | None = None) -> bytes:
    """Return what stands before the first image.

    Args:
        width: in pixels.
        height: in pixels.
        plays: how often the images are shown; 0 for without end.
        comment: a comment.
    """
    parts = [b"GIF89a", struct.pack("<HHBBB", width, height, 0x70, 0, 0)]
    if plays != 1:  # the number of repetitions, and 0 for without end
        parts.append(b"!\xff\x0bNETSCAPE2.0\x03\x01" + struct.pack("<H", min(max(plays - 1, 0), 65535)) + b"\0")
    if comment:
        parts.append(b"!\xfe")
        parts += [bytes([len(part)]) + part for part in (comment[at : at + 255] for at in range(0, len(comment), 255))]
        parts.append(b"\0")
    return b"".join(parts)


def image_block(
    image: DecodedImage, place: tuple[int, int] = (0, 0), *, hundredths: int = 0, disposal: int = 0
) -> bytes:
    """Return an image with a palette of its own.

    Args:
        image: 8 bits. It becomes transparent where its alpha is below 128.
        place: left and top on the screen.
        hundredths: time that it is shown, in hundredths of a second.
        disposal: :data:`KEEP` or :data:`CLEAR`, or 0 for a still image. An image that is cleared names a transparent
            index in any case, because readers clear to it.
    """
    indices, palette, transparent = indexed(image, reserve=disposal == CLEAR)
    height, width = indices.shape
    bits = max(1, (len(palette) // 3 - 1).bit_length())
    palette += bytes(3 * (1 << bits) - len(palette))
    parts = []
    if hundredths or disposal or transparent is not None:
        flags = disposal << 2 | (transparent is not None)
        parts.append(b"!\xf9\x04" + struct.pack("<BHBB", flags, min(hundredths, 65535), transparent or 0, 0))
    parts.append(b"," + struct.pack("<HHHHB", *place, width, height, 0x80 | bits - 1))
    parts += [palette, _compressed(indices, palette)]
    return b"".join(parts)


def indexed(image: DecodedImage, *, reserve: bool = False) -> tuple[np.ndarray, bytes, int | None]:
    """Choose a palette: the colours of an image if there are up to 256, else those of a median cut, dithered.

    Args:
        image: 8 bits.
        reserve: whether to name a transparent index also if no pixel is transparent.

    Returns:
        (H, W) uint8 indices, the palette as RGB, and the index of transparent pixels, if there are any.
    """
    hidden: np.ndarray | None = None if image.alpha is None else image.alpha < _OPAQUE_FROM
    if reserve and hidden is None:
        hidden = np.zeros(image.pixels.shape[:2], bool)
    if hidden is not None and not reserve and not hidden.any():
        hidden = None
    if image.gray and hidden is None:
        return np.ascontiguousarray(image.pixels[..., 0]), bytes(np.repeat(np.arange(256, dtype=np.uint8), 3)), None
    most = _COLOURS - (hidden is not None)
    packed = _packed(image.pixels)
    colours = _used(packed if hidden is None else packed[~hidden])
    if len(colours) <= most:
        places = np.zeros(1 << 24, np.uint8)
        places[colours] = np.arange(len(colours), dtype=np.uint8)
        indices = places[packed]
        palette = np.stack([colours >> 16, colours >> 8 & 255, colours & 255], axis=1).astype(np.uint8).tobytes()
    else:
        plain = Image.fromarray(image.pixels)
        chosen = plain.quantize(most, Image.Quantize.MEDIANCUT)
        indices = np.array(plain.quantize(palette=chosen, dither=Image.Dither.FLOYDSTEINBERG))
        palette = bytes(chosen.getpalette() or ())[: 3 * most]
    if hidden is None:
        return indices, palette, None
    indices[hidden] = len(palette) // 3
    return indices, palette + bytes(3), len(palette) // 3


def is_complete(data: bytes) -> bool:
    """Whether a GIF has its end mark. A file without it may lack frames, or be one of a careless writer.

    Raises:
        ValueError: it ends inside of a frame, or between its times and its pixels.
    """
    at = 13 + (3 << (data[10] & 7) + 1 if data[10] & 0x80 else 0)
    open_block = False
    while at < len(data):
        kind = data[at]
        if kind == 0x3B:
            return True
        if kind == 0x2C:
            flags = data[at + 9] if at + 9 < len(data) else 0
            at += 11 + (3 << (flags & 7) + 1 if flags & 0x80 else 0)
        elif kind == 0x21:
            at += 2
        else:  # between two blocks, where readers skip what they do not know
            at += 1
            continue
        open_block = kind == 0x21
        while at < len(data) and data[at]:
            at += data[at] + 1
        if at >= len(data):
            raise ValueError(TRUNCATED)
        at += 1
    if open_block:
        raise ValueError(TRUNCATED)
    return False


def lost(image: DecodedImage) -> tuple[str, ...]:
    """Return a sentence for each thing that a GIF rounds in an image of 8 bits."""
    sentences = []
    if image.alpha is not None and ((image.alpha != 0) & (image.alpha != 255)).any():
        sentences.append("GIF holds no partial transparency; pixels become transparent or opaque")
    if not image.gray and len(_used(_packed(image.pixels))) > _COLOURS:
        sentences.append("GIF holds 256 colours in an image; the others are dithered")
    return tuple(sentences)


def _packed(pixels: np.ndarray) -> np.ndarray:
    wide = pixels.astype(np.int32)
    packed: np.ndarray = wide[..., 0] << 16 | wide[..., 1] << 8 | wide[..., 2]
    return packed


def _used(packed: np.ndarray) -> np.ndarray:
    """Return the colours that occur, sorted."""
    seen = np.zeros(1 << 24, bool)
    seen[packed] = True
    return np.flatnonzero(seen)


def _compressed(indices: np.ndarray, palette: bytes) -> bytes:
    """Return the LZW blocks of an image, out of a GIF that Pillow writes."""
    image = Image.fromarray(indices)
    image.putpalette(palette)
    buffer = io.BytesIO()
    image.save(buffer, "GIF", optimize=False, interlace=0)
    data = buffer.getvalue()
    at = 13 + (3 << (data[10] & 7) + 1 if data[10] & 0x80 else 0)
    flags = data[at + 9]  # of the image, which follows at once, because it has neither a time nor transparency
    at += 10 + (3 << (flags & 7) + 1 if flags & 0x80 else 0)
    return data[at:-1]
