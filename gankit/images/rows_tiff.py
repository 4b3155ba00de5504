"""Read a TIFF strip by strip, or one row of tiles after the other, with tifffile."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import tifffile
from PIL import Image

from gankit.images.cmyk import note_of, to_srgb, usable_back
from gankit.images.decoded import DecodedImage
from gankit.images.formats.base import Header
from gankit.images.hdr import PixelsByRows
from gankit.images.metadata import read_exif
from gankit.images.row_image import Opened, RowGenerator, head_of, needs_upright
from gankit.images.tiff_file import (
    ICC_TAG,
    check_photometric,
    checked_bits,
    is_cmyk,
    is_float,
    is_plain,
    metadata,
    page_header,
    page_notes,
    stated_orientation,
    straight_samples,
)
from gankit.images.tiff_parts import check_places

_CHUNK_BYTES = 4 << 20


def open_tiff(path: Path) -> Opened:
    """Read the header of the first page."""
    with tifffile.TiffFile(path) as file:
        page = file.pages[0].aspage()
        header = page_header(page)
        itemsize = 4 if is_float(page) else 2 if int(np.max(page.bitspersample)) > 8 else 1
        alpha = bool(page.extrasamples)
    return Opened(path.stat().st_size, header, itemsize, alpha, lambda: _describe(path, header))


def _describe(path: Path, header: Header) -> tuple[DecodedImage, int, Callable[[], RowGenerator]]:
    """Return what :class:`Opened` describes.

    Raises:
        ValueError: a kind that cannot be read by strips, or a file that ends early.
    """
    with tifffile.TiffFile(path) as file:
        page = file.pages[0].aspage()
        if page.imagedepth > 1:
            raise ValueError("a volume, not an image")
        bits = checked_bits(page, floats=True)
        inks = is_cmyk(page, bits)
        if not inks and not is_plain(page, bits):
            raise ValueError(
                "a TIFF of less than 8 bits, in JPEG compression, or neither gray, RGB nor CMYK cannot be read by "
                "strips; convert it to RGB without compression or with deflate"
            )
        if not inks:
            check_photometric(page, bits)
        check_places(page, path.stat().st_size)
        needs_upright(stated_orientation(page))
        exif = Image.Exif()
        if not file.is_bigtiff:
            with path.open("rb") as opened:
                exif.load_from_fp(opened)
                kept = read_exif(exif)[1]
        else:
            kept = read_exif(exif)[1]
        profile = page.tags.valueof(ICC_TAG)
        fields = {**metadata(page), "exif": kept}
        pages = len(page_notes(file))
        fields["notes"] = (*page_notes(file), *fields["notes"])
        tall = page.tilelength if page.is_tiled else min(page.rowsperstrip, header.height)
        if _is_raw(page):
            tall = min(tall, _raw_rows(page))
        profile = bytes(profile) if profile else None
        if inks:
            convert, used = to_srgb("CMYK", profile)
            own = profile if used and usable_back(profile) else None
            note = note_of(used, own is not None)
            fields |= {"cmyk_profile": own, "notes": (*fields["notes"][:pages], note, *fields["notes"][pages:])}

        def straight(page: tifffile.TiffPage, rows: np.ndarray) -> np.ndarray:
            if inks:
                return np.asarray(convert(Image.fromarray(rows, "CMYK")))
            return straight_samples(page, bits, rows)

        samples = straight(page, np.zeros((1, 1, page.samplesperpixel), page.dtype))
        head = head_of(samples.shape[2], samples.dtype, profile, fields, "TIFF")
        part_bytes = 3 * tall * header.width * page.samplesperpixel * samples.itemsize

        light = PixelsByRows() if is_float(page) else None

    def stored_rows() -> RowGenerator:
        with tifffile.TiffFile(path) as file:
            page = file.pages[0].aspage()
            for rows in _raw(page) if _is_raw(page) else _decoded(page):
                yield straight(page, rows)

    if light is None:
        return head, part_bytes, stored_rows
    colours = 1 if head.gray else 3
    for rows in stored_rows():
        light.add(rows[..., :colours])
    hdr, note = light.complete(half=bits == 16)
    head = replace(head, hdr=hdr, notes=(*fields["notes"][:pages], note, *fields["notes"][pages:]))

    def pixel_rows() -> RowGenerator:
        for rows in stored_rows():
            alpha = np.clip(np.nan_to_num(rows[..., colours:]), 0, 1)
            yield np.concatenate([light.pixels(rows[..., :colours]), alpha], axis=2)

    return head, 3 * part_bytes, pixel_rows


def _is_raw(page: tifffile.TiffPage) -> bool:
    """Whether the rows are in the file as they are in memory, so that single ones can be read."""
    plain = page.compression == tifffile.COMPRESSION.NONE and page.predictor == 1 and page.fillorder == 1
    contiguous = page.planarconfig != tifffile.PLANARCONFIG.SEPARATE or page.samplesperpixel == 1
    whole_bytes = page.bitspersample in ((16, 32, 64) if is_float(page) else (8, 16))
    return bool(plain and contiguous and not page.is_tiled and whole_bytes)


def _raw_rows(page: tifffile.TiffPage) -> int:
    return max(1, _CHUNK_BYTES // (page.imagewidth * page.samplesperpixel * page.bitspersample // 8))


def _raw(page: tifffile.TiffPage) -> RowGenerator:
    """Yield rows (n, W, C) of uncompressed strips."""
    file, samples, width = page.parent.filehandle, page.samplesperpixel, page.imagewidth
    dtype = np.dtype(f"{page.parent.byteorder}{'f' if is_float(page) else 'u'}{page.bitspersample // 8}")
    row_bytes = width * samples * dtype.itemsize
    tall, most = min(page.rowsperstrip, page.imagelength), _raw_rows(page)
    for index, first in enumerate(range(0, page.imagelength, tall)):
        left = min(tall, page.imagelength - first)
        file.seek(page.dataoffsets[index])
        while left:
            count = min(left, most)
            data = file.read(count * row_bytes)
            yield np.frombuffer(data, dtype).reshape(count, width, samples).astype(dtype.newbyteorder("="), copy=False)
            left -= count


def _decoded(page: tifffile.TiffPage) -> RowGenerator:
    """Yield rows (n, W, C) of decoded strips or of rows of tiles."""
    file, width, height = page.parent.filehandle, page.imagewidth, page.imagelength
    tall = page.tilelength if page.is_tiled else min(page.rowsperstrip, height)
    wide = page.tilewidth if page.is_tiled else width
    down, across = -(-height // tall), -(-width // wide)
    planes = page.samplesperpixel if page.planarconfig == tifffile.PLANARCONFIG.SEPARATE else 1
    tables = {"jpegtables": page.jpegtables} if page.jpegtables else {}
    for row in range(down):
        count = min(tall, height - row * tall)
        rows = np.empty((count, width, page.samplesperpixel), page.dtype)
        for plane in range(planes):
            for column in range(across):
                index = (plane * down + row) * across + column
                file.seek(page.dataoffsets[index])
                segment = page.decode(file.read(page.databytecounts[index]), index, **tables)[0]
                if segment is None:
                    raise ValueError("a strip or tile is missing; the file is damaged")
                part = segment[0, :count, : min(wide, width - column * wide)]
                target = rows[:, column * wide : column * wide + part.shape[1]]
                if len(part) != count:
                    raise ValueError("a strip or tile is too short; the file is damaged")
                if planes > 1:
                    target[..., plane] = part[..., 0]
                else:
                    target[...] = part
        yield rows
