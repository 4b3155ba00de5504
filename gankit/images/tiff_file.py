"""Read TIFF: 1 to 16 bits and floating point, with profile, EXIF, XMP, IPTC and resolution."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import Any

import numpy as np
import tifffile
from PIL import TiffImagePlugin

from gankit.images.alpha import unmultiply, unmultiply_linear
from gankit.images.decoded import DecodedImage, from_channels, from_linear
from gankit.images.formats.base import Header
from gankit.images.hdr import Hdr
from gankit.images.iptc import read_iptc
from gankit.images.metadata import (
    parse_exif,
    read_exif,
    upright,
    valid_orientation,
)
from gankit.images.pillow import StoredSamples, samples_of, valid_dpi
from gankit.images.tiff_parts import check_complete
from gankit.images.xmp import MANIFEST, read_xmp, xmp_orientation

_SIMPLE = (tifffile.PHOTOMETRIC.MINISBLACK, tifffile.PHOTOMETRIC.MINISWHITE, tifffile.PHOTOMETRIC.RGB)
_JPEG = (tifffile.COMPRESSION.OJPEG, tifffile.COMPRESSION.JPEG)
XMP_TAG, IPTC_TAG, _PHOTOSHOP_TAG, ICC_TAG, _C2PA_TAG = 700, 33723, 34377, 34675, 52545
_FLOAT = 3  # of SampleFormat
_NO_IMAGE = 1 | 4  # of NewSubfileType: a reduced image (a thumbnail), a transparency mask


def tiff_header(data: bytes) -> Header:
    """Return the size of the first page, and the memory that decoding it takes."""
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        return page_header(file.pages[0].aspage())


def page_header(page: tifffile.TiffPage) -> Header:
    """Return the size of a page, and the memory that decoding it takes.

    Raises:
        ValueError: its width or height is not one whole number.
    """
    if not isinstance(page.imagewidth, int) or not isinstance(page.imagelength, int):
        raise ValueError(f"the file is damaged (its size is {page.imagewidth}×{page.imagelength})")
    bits = int(np.max(page.bitspersample))
    samples = min(page.samplesperpixel, 5)
    if is_float(page):  # the samples, linear light in float32, encoded light and what its computation takes
        return Header(page.imagewidth, page.imagelength, samples * bits // 8 + 8 * samples + 40)
    if not is_plain(page, bits):
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
        return replace(decoded, notes=(*page_notes(file), *decoded.notes))


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
    bits = checked_bits(page, floats=True)
    check_complete(page, data)
    icc_profile, inks = page.tags.valueof(ICC_TAG), StoredSamples(np.empty(0))
    if is_float(page):
        return _linear(file, page, None if file.is_bigtiff or number else data)
    if is_plain(page, bits):
        samples = _plain_samples(page, bits)
        orientation = stated_orientation(page)
        _, exif = read_exif(parse_exif(None if file.is_bigtiff or number else data))
    else:
        # Palettes, single bits, CMYK, YCbCr and Lab: Pillow knows them all.
        image = TiffImagePlugin.TiffImageFile(io.BytesIO(data))
        image.seek(number)
        image.load()
        inks = samples_of(image)
        samples, icc_profile = inks.samples, inks.icc_profile
        # Read after load(), where Pillow turns a TIFF upright by itself and drops the tag.
        orientation, exif = read_exif(image.getexif(), xmp_orientation(page.tags.valueof(XMP_TAG)))
    decoded = from_channels(upright(samples, orientation), bytes(icc_profile) if icc_profile else None)
    fields = metadata(page)
    fields["notes"] = (*inks.notes, *fields["notes"])
    return replace(decoded, exif=exif, cmyk_profile=inks.cmyk_profile, **fields)


def is_float(page: tifffile.TiffPage) -> bool:
    """Whether a page holds floating-point samples."""
    return int(np.max(page.sampleformat)) == _FLOAT


def _linear(file: tifffile.TiffFile, page: tifffile.TiffPage, exif_data: bytes | None) -> DecodedImage:
    """Decode a page of floating-point samples, which are linear light."""
    bits = int(np.max(page.bitspersample))
    check_photometric(page, bits)
    samples = straight_samples(page, bits, _stored(page))
    _, exif = read_exif(parse_exif(exif_data))
    icc_profile = page.tags.valueof(ICC_TAG)
    decoded = from_linear(
        upright(samples, stated_orientation(page)), Hdr(half=bits == 16), bytes(icc_profile) if icc_profile else None
    )
    fields = metadata(page)
    return replace(decoded, exif=exif, **{**fields, "notes": (*decoded.notes, *fields["notes"])})


def checked_bits(page: tifffile.TiffPage, *, floats: bool = False) -> int:
    """Return the bits of a sample.

    Args:
        page: the page.
        floats: whether floating point of 16 to 64 bits is allowed.

    Raises:
        ValueError: pixels that have no 8- or 16-bit meaning.
    """
    bits, kind = int(np.max(page.bitspersample)), int(np.max(page.sampleformat))
    if kind == _FLOAT:
        if not floats or bits not in (16, 32, 64):
            raise ValueError(f"{bits}-bit floating-point pixels; convert it to 8 or 16 bits")
        return bits
    if kind == 2 or bits > 16:
        raise ValueError(f"{bits}-bit {'signed ' if kind == 2 else ''}integer pixels; convert it to 8 or 16 bits")
    return bits


def metadata(page: tifffile.TiffPage) -> dict[str, Any]:
    """Return the resolution, XMP, IPTC and notes of a page as fields of a :class:`DecodedImage`."""
    xmp, notes = read_xmp(page.tags.valueof(XMP_TAG))
    if _C2PA_TAG in page.tags:
        notes = tuple(dict.fromkeys((*notes, MANIFEST)))
    iptc = read_iptc(page.tags.valueof(IPTC_TAG)) or read_iptc(page.tags.valueof(_PHOTOSHOP_TAG))
    return {"dpi": _resolution(page), "xmp": xmp, "iptc": iptc, "notes": notes}


def stated_orientation(page: tifffile.TiffPage) -> int:
    """Return the orientation of a page by its own tag, or else by its XMP packet."""
    packet = page.tags.valueof(XMP_TAG)
    return valid_orientation(page.tags.valueof("Orientation", default=xmp_orientation(packet)))


def is_plain(page: tifffile.TiffPage, bits: int) -> bool:
    """Whether tifffile reads it; else Pillow does."""
    return bits > 8 or (bits == 8 and page.photometric in _SIMPLE and page.compression not in _JPEG)


def is_cmyk(page: tifffile.TiffPage, bits: int) -> bool:
    """Whether a page holds cyan, magenta, yellow and black in 8 bits, and nothing else, and tifffile reads it."""
    inks = page.tags.valueof("InkSet", default=1) == 1 and page.samplesperpixel == 4 and not page.extrasamples
    return bool(
        bits == 8 and page.photometric == tifffile.PHOTOMETRIC.SEPARATED and inks and page.compression not in _JPEG
    )


def page_notes(file: tifffile.TiffFile) -> tuple[str, ...]:
    """A note on further pages; thumbnails and masks are no pages of their own."""
    try:
        count = len(page_numbers(file))
        if file.is_imagej and file.imagej_metadata:  # one directory stands for all of its images
            count = max(count, int(file.imagej_metadata.get("images", 1)))
    except Exception:  # a chain of directories may be damaged behind the first one
        return ()
    return (f"only the first of {count} pages is used",) if count > 1 else ()


def page_numbers(file: tifffile.TiffFile) -> list[int]:
    """Return the numbers of the pages, from 0, without thumbnails and masks.

    Raises:
        ValueError: a page is followed by an earlier one, so that the pages never end.
    """
    numbers, places = [], set()
    for number, page in enumerate(file.pages):
        if page.offset in places:
            raise ValueError(f"the file is damaged (page {number + 1} is an earlier page)")
        places.add(page.offset)
        if not int(page.aspage().tags.valueof("NewSubfileType", default=0)) & _NO_IMAGE:
            numbers.append(number)
    return numbers


def _plain_samples(page: tifffile.TiffPage, bits: int) -> np.ndarray:
    """Gray or RGB samples as (H, W, 1 to 4), uint8, or of 9 to 16 bits as uint16 over the full range."""
    check_photometric(page, bits)
    return straight_samples(page, bits, _stored(page))


def _stored(page: tifffile.TiffPage) -> np.ndarray:
    """The samples of a page as they are stored, (H, W, C)."""
    samples = np.asarray(page.asarray(maxworkers=1))
    samples = samples.reshape(
        (page.samplesperpixel, page.imagelength, page.imagewidth)
        if page.planarconfig == tifffile.PLANARCONFIG.SEPARATE
        else (page.imagelength, page.imagewidth, page.samplesperpixel)
    )
    if page.planarconfig == tifffile.PLANARCONFIG.SEPARATE:
        samples = np.moveaxis(samples, 0, -1)
    return samples


def check_photometric(page: tifffile.TiffPage, bits: int) -> None:
    """Refuse a plain page that is neither gray nor RGB, and linear light whose 0 is white.

    Raises:
        ValueError: The message names the kind of its pixels.
    """
    if page.photometric not in _SIMPLE:
        name = getattr(page.photometric, "name", str(page.photometric))
        raise ValueError(f"{bits}-bit {name} pixels; convert it to 8 bits or to RGB")
    if is_float(page) and page.photometric == tifffile.PHOTOMETRIC.MINISWHITE:
        raise ValueError("floating-point pixels whose 0 is white; convert it to 16 bits")


def straight_samples(page: tifffile.TiffPage, bits: int, samples: np.ndarray) -> np.ndarray:
    """Convert the samples of some rows of a plain page, as they are stored, to what a :class:`DecodedImage` is made of.

    Args:
        page: the page.
        bits: bits of a sample, 8 to 16.
        samples: (H, W, C) as stored.

    Returns:
        (H, W, 1 to 4): gray or RGB, with straight alpha if there is any; uint8, or uint16 over the full range; float32
        for floating point.
    """
    if is_float(page):
        samples = samples.astype(np.float32)
    elif 8 < bits < 16:
        top = (1 << bits) - 1
        samples = ((samples.astype(np.uint32) * 65535 + top // 2) // top).astype(np.uint16)
    if not is_float(page):
        samples = samples.astype(np.uint8 if bits == 8 else np.uint16, copy=False)
    colours = 3 if page.photometric == tifffile.PHOTOMETRIC.RGB else 1
    colour = samples[..., :colours]
    if page.photometric == tifffile.PHOTOMETRIC.MINISWHITE:
        colour = ~colour  # top - v in either depth
    extra = page.extrasamples[0] if page.extrasamples and samples.shape[-1] > colours else None
    if extra not in (tifffile.EXTRASAMPLE.ASSOCALPHA, tifffile.EXTRASAMPLE.UNASSALPHA):
        return colour  # an extra channel that does not say it is alpha is not
    alpha = samples[..., colours]
    if extra == tifffile.EXTRASAMPLE.ASSOCALPHA:
        colour = unmultiply_linear(colour, alpha) if is_float(page) else unmultiply(colour, alpha)
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
