"""Images that are read a few rows at a time, because they do not fit into memory: PNG, JPEG and TIFF.

tifffile reads TIFF. libvips reads PNG and JPEG, through pyvips (``pip install 'gankit[large]'``). The pixels and the
metadata are those of :func:`gankit.images.decode`.
"""

from __future__ import annotations

import importlib.util
import mmap
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, JpegImagePlugin

from gankit.errors import ImageError, ImageMemoryError
from gankit.images.cmyk import note_of, to_srgb, usable_back
from gankit.images.decode import check_size, reason_of
from gankit.images.decoded import DecodedImage
from gankit.images.formats import png
from gankit.images.formats.base import Header
from gankit.images.formats.jpeg import parts_metadata
from gankit.images.pillow import metadata_of
from gankit.images.row_image import Opened, RowGenerator, RowImage, head_of, needs_upright

_CHUNK_BYTES = 1 << 20
_MAGIC_BYTES = 64
_PLAIN_BYTES = {"L": 6, "RGB": 10}


def header_of(path: Path) -> Opened | None:
    """Return the size that a file declares, without reading its pixels.

    Returns:
        ``None`` for a format that cannot be read by rows, or a file that is damaged or missing;
        :func:`gankit.images.decode` says so.
    """
    try:
        with path.open("rb") as file:
            start = file.read(_MAGIC_BYTES)
        if start.startswith(png.SIGNATURE):
            deep, alpha = start[24] == 16, start[25] in (3, 4, 6)
            return Opened(
                path.stat().st_size, png.FORMAT.header(start), 2 if deep else 1, alpha, lambda: _png(path, start)
            )
        if start.startswith(b"\xff\xd8\xff"):
            return _jpeg(path)
        if start[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
            from gankit.images.rows_tiff import open_tiff

            return open_tiff(path)
    except Exception:  # decoders raise all kinds of exceptions for damaged bytes
        return None
    return None


def check_rows(path: Path, opened: Opened, max_pixels: int) -> None:
    """Refuse an image by the size that it declares, as :func:`gankit.images.decode` does.

    Raises:
        ImageError: If it has more pixels.
    """
    try:
        check_size(opened.header, max_pixels, None)
    except ValueError as error:
        raise ImageError(path, str(error)) from None


def open_rows(path: Path, opened: Opened) -> RowImage:
    """Open an image to read its rows.

    Args:
        path: the file.
        opened: the result of :func:`header_of`.

    Raises:
        ImageError: damaged, or of a kind that cannot be read by rows. The message says which.
    """
    header = opened.header
    try:
        head, part_bytes, read = opened.describe()
    except Exception as error:
        raise ImageError(path, reason_of(error)) from error

    def checked() -> RowGenerator:
        count = 0
        try:
            for rows in read():
                count += len(rows)
                yield rows
        except MemoryError:
            raise ImageMemoryError(path, "there is not enough memory to decode it") from None
        except (GeneratorExit, KeyboardInterrupt):
            raise
        except Exception as error:
            raise ImageError(path, reason_of(error)) from error
        if count != header.height:
            raise ImageError(path, "the file ends before its pixels do; it is truncated")

    return RowImage(path, header.width, header.height, head, part_bytes, checked)


def _png(path: Path, start: bytes) -> tuple[DecodedImage, int, Callable[[], RowGenerator]]:
    if start[28]:
        raise ValueError("an interlaced PNG cannot be read by strips; save it without interlacing")
    with path.open("rb") as file, closing(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)) as data:
        orientation, icc_profile, fields = png.metadata(data)
    needs_upright(orientation)
    return _vips(path, icc_profile, fields, "PNG")


def _jpeg(path: Path) -> Opened:
    with path.open("rb") as file:
        image = JpegImagePlugin.JpegImageFile(file)
        mode, progressive = image.mode, "progressive" in image.info
        header = Header(*image.size, _PLAIN_BYTES.get(mode, 14))
        orientation, fields = metadata_of(image)
        fields |= parts_metadata(image, fields["notes"])
        icc_profile = image.info.get("icc_profile")

    def describe() -> tuple[DecodedImage, int, Callable[[], RowGenerator]]:
        if mode not in (*_PLAIN_BYTES, "CMYK"):
            raise ValueError(f"a JPEG of mode {mode} cannot be read by strips; convert it to RGB")
        if progressive:
            raise ValueError("a progressive JPEG cannot be read by strips; save it as a baseline JPEG")
        needs_upright(orientation)
        if mode == "CMYK":
            return _inks(path, icc_profile, fields)
        return _vips(path, icc_profile, fields, "JPEG")

    return Opened(path.stat().st_size, header, 1, False, describe)


def _inks(
    path: Path, icc_profile: bytes | None, fields: dict[str, Any]
) -> tuple[DecodedImage, int, Callable[[], RowGenerator]]:
    """Read a JPEG of CMYK with libvips, and convert its rows to sRGB as the whole image is converted.

    libvips takes the stored values as inverted, as Pillow does, whether or not the file says that it is one of Adobe.
    """
    convert, used = to_srgb("CMYK", icc_profile)
    own = icc_profile if used and usable_back(icc_profile) else None
    notes = list(fields["notes"])
    kept = sum(note.startswith("only the first of ") for note in notes)
    notes.insert(kept, note_of(used, own is not None))  # in the order of the whole image
    _, part_bytes, inks = _vips(path, None, fields, "JPEG")

    def read() -> RowGenerator:
        for rows in inks():
            yield np.asarray(convert(Image.fromarray(rows, "CMYK")))

    plain = head_of(3, np.uint8, None, {**fields, "notes": tuple(notes), "cmyk_profile": own}, "JPEG")
    return plain, part_bytes * 3, read


def _vips(
    path: Path, icc_profile: bytes | None, fields: dict[str, Any], name: str
) -> tuple[DecodedImage, int, Callable[[], RowGenerator]]:
    """Read with libvips.

    Raises:
        ValueError: pyvips is not installed.
    """
    if importlib.util.find_spec("pyvips") is None:
        raise ValueError(f"pyvips reads a {name} by strips: pip install 'gankit[large]'")
    import pyvips

    def open_image() -> Any:
        # Limits guard against small files of many pixels, which check_size does here.
        return pyvips.Image.new_from_file(str(path), access="sequential", fail_on="error", unlimited=True)

    image = open_image()
    dtype = {"uchar": np.uint8, "ushort": np.uint16}.get(image.format)
    if dtype is None or image.bands > 4:
        raise ValueError(f"{image.bands} channels of {image.format} cannot be read by strips; convert it to RGB")
    width, height, bands = image.width, image.height, image.bands
    row_bytes = width * bands * np.dtype(dtype).itemsize
    rows = min(height, max(1, _CHUNK_BYTES // row_bytes))

    def read() -> RowGenerator:
        region = pyvips.Region.new(open_image())
        for top in range(0, height, rows):
            count = min(rows, height - top)
            yield np.frombuffer(region.fetch(0, top, width, count), dtype).reshape(count, width, bands)

    return head_of(bands, dtype, icc_profile, fields, name), rows * row_bytes, read
