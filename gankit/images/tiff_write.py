"""Write TIFF: 8 and 16 bits, with profile, EXIF, XMP, IPTC and resolution; whole or as rows arrive."""

from __future__ import annotations

import io
import math
import struct
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import IO, Any, BinaryIO

import numpy as np
import tifffile

from gankit.images.cmyk import to_inks
from gankit.images.decoded import DecodedImage
from gankit.images.formats.png import LEVEL, codec
from gankit.images.hdr import to_linear
from gankit.images.metadata import SUB_DIRECTORIES, pack_directory, parse_exif, sub_directories
from gankit.images.tiff_file import IPTC_TAG, XMP_TAG

_ROWS_PER_STRIP = 64
_Tag = tuple[int, int, int, Any, bool]  # code, type, count, value, in the first page only
CLASSIC_LIMIT = 1 << 31  # above it tifffile may write BigTIFF, whose directory has another form


def encode_tiff(image: DecodedImage) -> bytes:
    """Encode as deflated strips with the horizontal predictor: all readers know it.

    Args:
        image: uint8, uint16 or linear light, gray or RGB, with or without alpha.

    Returns:
        The file.
    """
    samples, buffer = stored_samples(image), io.BytesIO()
    _write(image, samples.shape, samples.dtype, [samples], buffer)
    return buffer.getvalue()


def stored_samples(image: DecodedImage) -> np.ndarray:
    """The samples of an image as a TIFF holds them; linear light in float16 or float32 where it has that, or inks."""
    if image.cmyk_profile:
        return to_inks(image.pixels, image.cmyk_profile)
    if image.hdr is None:
        return image.channels()
    light = replace(image, pixels=to_linear(image.pixels, image.hdr)).channels()
    return light.astype(np.float16) if image.hdr.half else light


def write_tiff_rows(image: DecodedImage, size: tuple[int, int], rows: Iterable[np.ndarray], file: BinaryIO) -> None:
    """Write rows that arrive one strip after the other, as :func:`encode_tiff` does; as BigTIFF from 2 GiB on.

    A BigTIFF has no EXIF sub-directories, as with :func:`encode_tiff`.

    Args:
        image: says what the pixels are and holds the metadata; its own pixels are not used.
        size: width and height of the result in pixels.
        rows: arrays (n, W) or (n, W, C) in the layout and dtype of ``stored_samples(image)``, from the top; n is a
            multiple of 64 but in the last one.
        file: open for reading and writing, at its start.
    """
    width, height = size
    shape = (height, width) if image.samples == 1 else (height, width, image.samples)
    _write(image, shape, stored_samples(image).dtype, rows, file)


def _write(
    image: DecodedImage, shape: tuple[int, ...], dtype: np.dtype[Any], rows: Iterable[np.ndarray], file: IO[bytes]
) -> None:
    large = math.prod(shape) * dtype.itemsize >= CLASSIC_LIMIT
    tifffile.imwrite(
        file, deflated(rows), shape=shape, dtype=dtype, bigtiff=large, byteorder="<", **page_options(image)
    )
    if not large:
        add_directories(file, image)


def deflated(rows: Iterable[np.ndarray]) -> Iterator[bytes]:
    """Yield strips of 64 rows, predicted and deflated as TIFF has it.

    Args:
        rows: samples (n, W) or (n, W, C); n is a multiple of 64 but in the last one.
    """
    import imagecodecs

    deflate = codec().compress
    for block in rows:
        for top in range(0, len(block), _ROWS_PER_STRIP):
            strip = block[top : top + _ROWS_PER_STRIP]
            if strip.dtype.kind == "f":
                predicted = bytes(imagecodecs.floatpred_encode(np.ascontiguousarray(strip), axis=1))
            else:
                predicted = imagecodecs.delta_encode(strip, axis=1).tobytes()
            yield deflate(predicted, LEVEL)


def page_options(image: DecodedImage) -> dict[str, Any]:
    """Return the options with which tifffile writes an image as a page, with all metadata of its first directory."""
    exif = parse_exif(image.exif)
    extra = [_extra_tag(tag, value) for tag, value in exif.items() if tag not in SUB_DIRECTORIES]
    for tag, kind, block in ((XMP_TAG, 1, image.xmp), (IPTC_TAG, 7, image.iptc)):
        if block:
            extra.append((tag, kind, len(block), block, True))
    return {
        "photometric": "separated" if image.cmyk_profile else "minisblack" if image.gray else "rgb",
        "planarconfig": "contig" if image.samples > 1 else None,
        "extrasamples": None if image.alpha is None else ["unassalpha"],
        "compression": "zlib",
        "predictor": True,
        "rowsperstrip": _ROWS_PER_STRIP,
        "resolution": image.dpi,
        "resolutionunit": "INCH" if image.dpi else None,
        "iccprofile": image.cmyk_profile or image.icc_profile,
        "extratags": [tag for tag in extra if tag],
        "metadata": None,
        "software": False,
        "maxworkers": 1,
    }


def _extra_tag(tag: int, value: Any) -> _Tag | None:
    """An entry of the first directory as tifffile takes it; ``None`` where it is neither text, bytes nor a count."""
    if isinstance(value, str):
        value = value.encode("utf-8") + b"\0"
        return tag, 2, len(value), value, True  # 2: ASCII, in which everybody writes UTF-8
    if isinstance(value, bytes) and value:
        return tag, 1, len(value), value, True
    if isinstance(value, int) and 0 <= value < 1 << 32:
        return tag, 3 if value < 1 << 16 else 4, 1, value, True
    return None


def add_directories(file: IO[bytes], image: DecodedImage) -> None:
    """Append the EXIF sub-directories of an image, which tifffile does not write, and a directory that names them.

    Args:
        file: a little-endian classic TIFF, changed in place. Its old first directory stays as dead bytes.
        image: the image of the first page.
    """
    directories = sub_directories(parse_exif(image.exif))
    if not directories:
        return
    file.seek(4)
    (start,) = struct.unpack("<I", file.read(4))
    file.seek(start)
    (count,) = struct.unpack("<H", file.read(2))
    fields = [file.read(12) for _ in range(count)]
    following = file.read(4)  # offset of the second page
    for tag, entries in directories.items():
        place = _even_end(file)
        file.write(pack_directory(entries, tag, place))
        fields.append(struct.pack("<HHII", tag, 4, 1, place))
    fields.sort(key=lambda field: struct.unpack_from("<H", field))
    place = _even_end(file)
    file.write(struct.pack("<H", len(fields)) + b"".join(fields) + following)
    file.seek(4)
    file.write(struct.pack("<I", place))


def _even_end(file: IO[bytes]) -> int:
    """Go to the end, where a directory may begin: on an even offset."""
    end = file.seek(0, io.SEEK_END)
    return end + file.write(b"\0" * (end % 2))
