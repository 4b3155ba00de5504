"""Whether the strips and tiles of a TIFF hold all of its pixels."""

from __future__ import annotations

import math
import struct

import numpy as np
import tifffile

from gankit.images.jpeg_stream import TRUNCATED, open_whole


def check_complete(page: tifffile.TiffPage, data: bytes) -> None:
    """Refuse missing strips and tiles: readers fill them with zeros, and a half-black image is worse than an error.

    Strips of fax codes that end early pass: libtiff reports nothing, and the codes have no certain end.

    Args:
        page: the page to decode.
        data: the whole file.

    Raises:
        ValueError: there are fewer than the size asks for, or one is empty, cut short or behind the end of the file.
    """
    check_places(page, len(data))
    if page.compression == tifffile.COMPRESSION.JPEG and int(np.max(page.bitspersample)) == 8:
        tables = (page.jpegtables or b"")[:-2] or b"\xff\xd8"  # less their end marker
        wanted = math.prod(page.chunked)
        for start, count in list(zip(page.dataoffsets, page.databytecounts, strict=False))[:wanted]:
            open_whole(tables + data[start + 2 : start + count])


def check_places(page: tifffile.TiffPage, length: int) -> None:
    """Do what :func:`check_complete` does, without the data: only the places and the sizes of the parts count.

    Args:
        page: the page to decode.
        length: size of the file in bytes.

    Raises:
        ValueError: See :func:`check_complete`.
    """
    wanted = math.prod(page.chunked)
    parts = list(zip(page.dataoffsets, page.databytecounts, strict=False))[:wanted]
    if len(parts) < wanted:
        kind = "tiles" if page.is_tiled else "strips"
        size = f"{page.imagewidth}×{page.imagelength}"
        raise ValueError(f"{size} pixels take {wanted} {kind}, and the file has {len(parts)}; it is damaged")
    if any(start <= 0 or count <= 0 or start + count > length for start, count in parts):
        raise ValueError(TRUNCATED)
    plain = page.compression == tifffile.COMPRESSION.NONE and page.photometric != tifffile.PHOTOMETRIC.YCBCR
    if plain and any(
        start + size > length if wanted == 1 else count < size
        for (start, count), size in zip(parts, _sizes(page, wanted), strict=True)
    ):
        raise ValueError(TRUNCATED)


def check_chain(data: bytes) -> None:
    """Refuse a file whose list of pages leads out of it: readers take the pages up to there for all.

    Args:
        data: the whole file.

    Raises:
        ValueError: a page is missing.
    """
    order = "<" if data[:2] == b"II" else ">"
    big = data[2:4] in (b"+\0", b"\0+")
    at, count, offset, entry = (8, "Q", "Q", 20) if big else (4, "H", "I", 12)
    seen: set[int] = set()
    while True:
        try:
            (place,) = struct.unpack_from(order + offset, data, at)
            if not place or place in seen:
                return
            seen.add(place)
            (entries,) = struct.unpack_from(order + count, data, place)
        except struct.error:
            raise ValueError(TRUNCATED) from None
        at = place + struct.calcsize(count) + entry * entries


def _sizes(page: tifffile.TiffPage, count: int) -> list[int]:
    """Bytes of each uncompressed strip or tile; a single strip counts whatever its writer says of its length."""
    samples = 1 if page.planarconfig == tifffile.PLANARCONFIG.SEPARATE else page.samplesperpixel
    bits = int(np.max(page.bitspersample)) * samples
    if page.is_tiled:
        return [page.tilelength * -(-page.tilewidth * bits // 8)] * count
    row = -(-page.imagewidth * bits // 8)
    rows = min(page.rowsperstrip, page.imagelength)
    strips = -(-page.imagelength // rows)
    return [row * min(rows, page.imagelength - index % strips * rows) for index in range(count)]
