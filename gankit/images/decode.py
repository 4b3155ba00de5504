"""Files to decoded images, by content rather than by name."""

from __future__ import annotations

import stat
from dataclasses import replace
from pathlib import Path

from PIL import Image

from gankit.errors import GankitError, ImageError, ImageMemoryError, NoMemoryError
from gankit.images.decoded import DecodedImage
from gankit.images.formats import Format, Header, format_of, titles
from gankit.images.unread import unread_kind
from gankit.memory import size

MAX_PIXELS = 250_000_000


def decode(
    path: Path, *, max_pixels: int = MAX_PIXELS, max_bytes: int | None = None, hdr: bool = False
) -> DecodedImage:
    """Read an image whole and upright, or say why that is not possible.

    The format is found by content; the suffix does not matter. Of several frames or pages the first is taken, and
    the image's ``notes`` say so. CMYK and Lab become sRGB (through the file's profile where it has one); the
    profile of a CMYK file is kept, so that :func:`gankit.images.encode` writes CMYK again.

    Args:
        path: a file of any format in ``gankit.images.formats``.
        max_pixels: refuse larger images by the size that they declare, before any pixel is decoded.
        max_bytes: likewise refuse images that need more memory than this to decode, by the estimate of their
            format; ``None`` for no limit.
        hdr: keep the linear light of OpenEXR and floating-point TIFF (see :mod:`gankit.images.hdr`); else it is cut to
            0 to 1 and encoded as sRGB in 16 bits.

    Returns:
        The image.

    Raises:
        ImageError: missing, unreadable, empty, truncated, damaged, too large, or not an image of a known format.
    """
    path = Path(path)
    return decode_bytes(read_whole(path, max_bytes), path, max_pixels=max_pixels, max_bytes=max_bytes, hdr=hdr)


def decode_bytes(
    data: bytes, path: Path, *, max_pixels: int = MAX_PIXELS, max_bytes: int | None = None, hdr: bool = False
) -> DecodedImage:
    """Read an image from the content of its file, as :func:`decode` does.

    Args:
        data: the whole file, not empty.
        path: named in errors.
        max_pixels: see :func:`decode`.
        max_bytes: see :func:`decode`.
        hdr: see :func:`decode`.

    Raises:
        ImageError: truncated, damaged, too large, or not an image of a known format.
    """
    try:
        format = _format(data)
        header = format.header(data)
        check_size(header, max_pixels, max_bytes)
        image = replace(format.decode(data), format=format.name.upper())
        return image if hdr else image.to_display()
    except MemoryError as error:
        raise ImageMemoryError(path, memory_reason(error)) from None
    except Exception as error:
        # Decoders raise all kinds of exceptions for damaged bytes: SyntaxError, struct.error, KeyError, …
        raise ImageError(path, reason_of(error)) from error


def read_whole(path: Path, max_bytes: int | None = None) -> bytes:
    """Return the content of a file.

    Args:
        path: the file.
        max_bytes: refuse a larger file before reading it; ``None`` for no limit.

    Raises:
        ImageError: it is missing, empty, no regular file, too large, or cannot be read.
    """
    try:
        found = path.stat()
        if stat.S_ISDIR(found.st_mode):
            raise ImageError(path, "is a folder, not an image")
        if not stat.S_ISREG(found.st_mode):
            raise ImageError(path, "is not a regular file")
        if max_bytes is not None and found.st_size > max_bytes:
            needed, room = size(found.st_size), size(max_bytes)
            raise ImageMemoryError(path, f"the file takes {needed} of memory, and {room} may be used")
        data = path.read_bytes()
    except FileNotFoundError:
        raise ImageError(path, "no such file") from None
    except PermissionError:
        raise ImageError(path, "cannot be read: permission denied") from None
    except (OSError, ValueError) as error:  # a name with a null byte is a ValueError
        text = error.strerror if isinstance(error, OSError) else None
        raise ImageError(path, f"cannot be read: {text or error}") from None
    if not data:
        raise ImageError(path, "the file is empty (0 bytes)")
    return data


def _format(data: bytes) -> Format:
    format = format_of(data)
    if format is None:
        kind = unread_kind(data)
        if kind is None:
            raise ValueError(f"not a {titles('or')} image")
        raise ValueError(f"{kind} image, which gankit does not read; convert it to PNG, TIFF or JPEG first")
    return format


def check_size(header: Header, max_pixels: int, max_bytes: int | None) -> None:
    """Refuse an image by the size that it declares.

    Raises:
        ValueError: no pixels, or more than may be decoded.
        NoMemoryError: more than the memory holds.
    """
    width, height = header.width, header.height
    if width < 1 or height < 1:
        raise ValueError(f"{width}×{height} holds no pixels")
    if width * height > max_pixels:
        raise ValueError(
            f"{width}×{height} is more than the limit of {max_pixels / 1e6:g} million pixels; "
            "if you trust the file, raise the limit (--max-pixels)"
        )
    needed = width * height * header.bytes_per_pixel
    if max_bytes is not None and needed > max_bytes:
        raise NoMemoryError(
            f"decoding {width}×{height} pixels takes about {needed / 1e9:.1f} GB of memory, "
            f"and {max_bytes / 1e9:.1f} GB may be used; close other programs, or cut the image into parts"
        )


def memory_reason(error: MemoryError) -> str:
    """One plain line that says for what there was no memory."""
    return str(error) if isinstance(error, NoMemoryError) else "there is not enough memory to decode it"


def reason_of(error: Exception) -> str:
    """One plain line that says what an exception of a decoder means."""
    text = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, Image.DecompressionBombError):  # Pillow's own limit, which WebP and some TIFFs also meet
        return f"too large: {text}"
    if isinstance(error, GankitError) or type(error) is ValueError:
        return text
    early = ("truncated", "too small", "end of", "not enough", "eof", "cannot read")
    if any(word in text.lower() for word in early):
        return f"the file ends before its pixels do; it is truncated ({text})"
    return f"the file is damaged ({text})"
