"""Files to Images, by content rather than by name."""

from __future__ import annotations

import io
import stat
from pathlib import Path

from PIL import BmpImagePlugin, Image, ImageFile, JpegImagePlugin, WebPImagePlugin

from gankit.errors import GankitError, ImageError
from gankit.images import png
from gankit.images.decoded import DecodedImage, from_channels
from gankit.images.metadata import read_xmp, upright
from gankit.images.pillow import exif_of, from_pil
from gankit.images.tiff import check_size, decode_tiff

MAX_PIXELS = 250_000_000
SUFFIXES: frozenset[str] = frozenset(
    {".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".tif", ".tiff", ".bmp", ".dib"}
)
_TIFF_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def decode(path: Path, *, max_pixels: int = MAX_PIXELS) -> DecodedImage:
    """Read an image whole and upright, or say why not.

    The format is found by content; the suffix does not matter. Of several frames or pages the first is taken.
    CMYK and Lab become sRGB (through the file's profile where it has one).

    Args:
        path: a PNG, JPEG, WebP, TIFF or BMP file.
        max_pixels: refuse larger images by their header, before any pixel is decoded.

    Returns:
        The image.

    Raises:
        ImageError: missing, unreadable, empty, truncated, damaged, too large, or no image of a known kind.
    """
    data = _read(Path(path))
    try:
        return _decode(data, max_pixels)
    except MemoryError:
        raise ImageError(path, "not enough memory to decode it") from None
    except Exception as error:
        # Decoders raise whatever comes to hand at damaged bytes: SyntaxError, struct.error, KeyError, …
        raise ImageError(path, _reason(error)) from error


def _read(path: Path) -> bytes:
    try:
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            raise ImageError(path, "is a folder, not an image")
        if not stat.S_ISREG(mode):
            raise ImageError(path, "is not a regular file")
        data = path.read_bytes()
    except FileNotFoundError:
        raise ImageError(path, "no such file") from None
    except PermissionError:
        raise ImageError(path, "cannot be read: permission denied") from None
    except OSError as error:
        raise ImageError(path, f"cannot be read: {error.strerror or error}") from None
    if not data:
        raise ImageError(path, "the file is empty (0 bytes)")
    return data


def _decode(data: bytes, max_pixels: int) -> DecodedImage:
    if data.startswith(png.SIGNATURE):
        return _decode_png(data, max_pixels)
    if data.startswith(_TIFF_MAGIC):
        return decode_tiff(data, max_pixels)
    image: ImageFile.ImageFile
    # The plug-ins directly, not Image.open: its own limit on pixels is a process-wide setting of the host program.
    if data.startswith(b"\xff\xd8\xff"):
        image = JpegImagePlugin.JpegImageFile(io.BytesIO(data))
    elif data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        image = WebPImagePlugin.WebPImageFile(io.BytesIO(data))
    elif data.startswith(b"BM"):
        image = BmpImagePlugin.BmpImageFile(io.BytesIO(data))
    else:
        raise ValueError("not a PNG, JPEG, WebP, TIFF or BMP image")
    check_size(*image.size, max_pixels)
    image.load()
    return from_pil(image)


def _decode_png(data: bytes, max_pixels: int) -> DecodedImage:
    info = png.read_info(data)
    check_size(info.width, info.height, max_pixels)
    orientation, exif = exif_of(info.exif)
    samples = upright(png.decode_pixels(data), orientation)
    return from_channels(
        samples,
        icc_profile=info.icc_profile,
        exif=exif,
        dpi=info.dpi,
        format="PNG",
        xmp=read_xmp(info.xmp),
        png_colour=info.colour,
    )


def _reason(error: Exception) -> str:
    """One plain line of whatever a decoder raised."""
    text = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, Image.DecompressionBombError):  # Pillow's own limit, which WebP and some TIFFs also meet
        return f"too large: {text}"
    if isinstance(error, GankitError) or type(error) is ValueError:
        return text
    early = ("truncated", "too small", "end of", "not enough", "eof", "cannot read")
    if any(word in text.lower() for word in early):
        return f"the file ends before its pixels do; it is truncated ({text})"
    return f"the file is damaged ({text})"
