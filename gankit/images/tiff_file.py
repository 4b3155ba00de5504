"""Read and write TIFF: 1 to 16 bits in, 8 and 16 bits out, with profile, EXIF, XMP, IPTC and resolution."""

from __future__ import annotations

import io
import struct
from dataclasses import replace
from typing import IO, Any

import numpy as np
import tifffile
from PIL import TiffImagePlugin

from gankit.images.alpha import unmultiply
from gankit.images.decoded import DecodedImage, from_channels
from gankit.images.formats.base import Header
from gankit.images.iptc import read_iptc
from gankit.images.metadata import (
    SUB_DIRECTORIES,
    pack_directory,
    parse_exif,
    read_exif,
    sub_directories,
    upright,
    valid_orientation,
)
from gankit.images.pillow import samples_of, valid_dpi
from gankit.images.tiff_parts import check_complete
from gankit.images.xmp import MANIFEST, read_xmp, xmp_orientation

_SIMPLE = (tifffile.PHOTOMETRIC.MINISBLACK, tifffile.PHOTOMETRIC.MINISWHITE, tifffile.PHOTOMETRIC.RGB)
_JPEG = (tifffile.COMPRESSION.OJPEG, tifffile.COMPRESSION.JPEG)
_XMP_TAG, _IPTC_TAG, _PHOTOSHOP_TAG, _ICC_TAG, _C2PA_TAG = 700, 33723, 34377, 34675, 52545
_NO_IMAGE = 1 | 4  # of NewSubfileType: a reduced image (a thumbnail), a transparency mask
_ROWS_PER_STRIP = 64
_Tag = tuple[int, int, int, Any, bool]  # code, type, count, value, in the first page only
CLASSIC_LIMIT = 1 << 31  # above it tifffile may write BigTIFF, whose directory has another form


def tiff_header(data: bytes) -> Header:
    """Return the size of the first page, and the memory that decoding it takes."""
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        return page_header(file)


def page_header(file: tifffile.TiffFile, number: int = 0) -> Header:
    """Return the size of a page, and the memory that decoding it takes."""
    page = file.pages[number].aspage()
    bits = int(np.max(page.bitspersample))
    samples = min(page.samplesperpixel, 5)
    if not _is_plain(page, bits):
        return Header(page.imagewidth, page.imagelength, 14)
    # The samples, then colours and alpha or a copy in another layout; values of 32 bits where they are scaled.
    each = (2 if bits > 8 else 1) * max(2 * samples, samples + 4)
    each += 8 * samples if 8 < bits < 16 else 0
    each += 24 if tifffile.EXTRASAMPLE.ASSOCALPHA in page.extrasamples else 0
    return Header(page.imagewidth, page.imagelength, each)


def decode_tiff(data: bytes) -> DecodedImage:
    """Decode the first page.

    Raises:
        ValueError: incomplete, or of a kind that has no 8- or 16-bit meaning; the text says which.
        Exception: anything that the decoders raise at damaged data.
    """
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        decoded = decode_page(file, data)
        return replace(decoded, notes=(*_frames(file), *decoded.notes))


def decode_page(file: tifffile.TiffFile, data: bytes, number: int = 0) -> DecodedImage:
    """Decode one page, with its own metadata; EXIF directories are read with the first page only.

    Args:
        file: the open file.
        data: its content.
        number: of the page, from 0.

    Raises:
        ValueError: as for :func:`decode_tiff`.
        Exception: as for :func:`decode_tiff`.
    """
    page = file.pages[number].aspage()
    if page.imagedepth > 1:
        raise ValueError("a volume, not an image")
    bits, kind = int(np.max(page.bitspersample)), int(np.max(page.sampleformat))
    if kind == 3:
        raise ValueError("floating-point pixels have no fixed range; convert it to 8 or 16 bits")
    if kind == 2 or bits > 16:
        raise ValueError(f"{bits}-bit {'signed ' if kind == 2 else ''}integer pixels; convert it to 8 or 16 bits")
    check_complete(page, data)
    icc_profile = page.tags.valueof(_ICC_TAG)
    packet = page.tags.valueof(_XMP_TAG)
    if _is_plain(page, bits):
        samples = _plain_samples(page, bits)
        orientation = valid_orientation(page.tags.valueof("Orientation", default=xmp_orientation(packet)))
        _, exif = read_exif(parse_exif(None if file.is_bigtiff or number else data))
    else:
        # Palettes, single bits, CMYK, YCbCr and Lab: Pillow knows them all.
        image = TiffImagePlugin.TiffImageFile(io.BytesIO(data))
        image.seek(number)
        image.load()
        samples, icc_profile = samples_of(image)
        # Read after load(), where Pillow turns a TIFF upright by itself and drops the tag.
        orientation, exif = read_exif(image.getexif(), xmp_orientation(packet))
    xmp, notes = read_xmp(packet)
    if _C2PA_TAG in page.tags:
        notes = tuple(dict.fromkeys((*notes, MANIFEST)))
    iptc = read_iptc(page.tags.valueof(_IPTC_TAG)) or read_iptc(page.tags.valueof(_PHOTOSHOP_TAG))
    dpi = _resolution(page)
    decoded = from_channels(upright(samples, orientation), bytes(icc_profile) if icc_profile else None)
    return replace(decoded, exif=exif, dpi=dpi, xmp=xmp, iptc=iptc, notes=notes)


def _is_plain(page: tifffile.TiffPage, bits: int) -> bool:
    """Whether tifffile reads it; else Pillow does."""
    return bits > 8 or (bits == 8 and page.photometric in _SIMPLE and page.compression not in _JPEG)


def _frames(file: tifffile.TiffFile) -> tuple[str, ...]:
    """A note on further pages; thumbnails and masks are no pages of their own."""
    try:
        count = len(page_numbers(file))
        if file.is_imagej and file.imagej_metadata:  # one directory stands for all of its images
            count = max(count, int(file.imagej_metadata.get("images", 1)))
    except Exception:  # a chain of directories may be damaged behind the first one
        return ()
    return (f"only the first of {count} pages is used",) if count > 1 else ()


def page_numbers(file: tifffile.TiffFile) -> list[int]:
    """Return the numbers of the pages, from 0, without thumbnails and masks."""
    kinds = [int(page.aspage().tags.valueof("NewSubfileType", default=0)) for page in file.pages]
    return [number for number, kind in enumerate(kinds) if not kind & _NO_IMAGE]


def _plain_samples(page: tifffile.TiffPage, bits: int) -> np.ndarray:
    """Gray or RGB samples as (H, W, 1 to 4), uint8, or of 9 to 16 bits as uint16 over the full range."""
    photometric = page.photometric
    if photometric not in _SIMPLE:
        name = getattr(photometric, "name", str(photometric))
        raise ValueError(f"{bits}-bit {name} pixels; convert it to 8 bits or to RGB")
    samples = np.asarray(page.asarray(maxworkers=1))
    samples = samples.reshape(
        (page.samplesperpixel, page.imagelength, page.imagewidth)
        if page.planarconfig == tifffile.PLANARCONFIG.SEPARATE
        else (page.imagelength, page.imagewidth, page.samplesperpixel)
    )
    if page.planarconfig == tifffile.PLANARCONFIG.SEPARATE:
        samples = np.moveaxis(samples, 0, -1)
    if 8 < bits < 16:
        top = (1 << bits) - 1
        samples = ((samples.astype(np.uint32) * 65535 + top // 2) // top).astype(np.uint16)
    samples = samples.astype(np.uint8 if bits == 8 else np.uint16, copy=False)
    colours = 3 if photometric == tifffile.PHOTOMETRIC.RGB else 1
    colour = samples[..., :colours]
    if photometric == tifffile.PHOTOMETRIC.MINISWHITE:
        colour = ~colour  # top - v in either depth
    extra = page.extrasamples[0] if page.extrasamples and samples.shape[-1] > colours else None
    if extra not in (tifffile.EXTRASAMPLE.ASSOCALPHA, tifffile.EXTRASAMPLE.UNASSALPHA):
        return colour  # an extra channel that does not say it is alpha is not
    alpha = samples[..., colours]
    if extra == tifffile.EXTRASAMPLE.ASSOCALPHA:
        colour = unmultiply(colour, alpha)
    return np.concatenate([colour, alpha[..., None]], axis=-1)


def _resolution(page: tifffile.TiffPage) -> tuple[float, float] | None:
    unit = page.tags.valueof("ResolutionUnit", default=2)
    if unit not in (2, 3):
        return None
    values = []
    for name in ("XResolution", "YResolution"):
        value = page.tags.valueof(name)
        if not isinstance(value, tuple) or len(value) != 2 or not value[1]:
            return None
        values.append(value[0] / value[1] * (2.54 if unit == 3 else 1.0))
    return valid_dpi(values)


def encode_tiff(image: DecodedImage) -> bytes:
    """Encode as deflated strips with the horizontal predictor, level 1: all readers know it.

    Args:
        image: uint8 or uint16, gray or RGB, with or without alpha.

    Returns:
        The file.
    """
    samples = image.channels()
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, samples, byteorder="<", **page_options(image))
    if samples.nbytes < CLASSIC_LIMIT:
        add_directories(buffer, image)
    return buffer.getvalue()


def page_options(image: DecodedImage) -> dict[str, Any]:
    """Return the options with which tifffile writes an image as a page, with all metadata of its first directory."""
    exif = parse_exif(image.exif)
    extra = [_extra_tag(tag, value) for tag, value in exif.items() if tag not in SUB_DIRECTORIES]
    for tag, kind, block in ((_XMP_TAG, 1, image.xmp), (_IPTC_TAG, 7, image.iptc)):
        if block:
            extra.append((tag, kind, len(block), block, True))
    return {
        "photometric": "minisblack" if image.gray else "rgb",
        "planarconfig": None if image.gray and image.alpha is None else "contig",
        "extrasamples": None if image.alpha is None else ["unassalpha"],
        "compression": "zlib",
        "compressionargs": {"level": 1},
        "predictor": True,
        "rowsperstrip": _ROWS_PER_STRIP,
        "resolution": image.dpi,
        "resolutionunit": "INCH" if image.dpi else None,
        "iccprofile": image.icc_profile,
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
