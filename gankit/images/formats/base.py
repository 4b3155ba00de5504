"""What gankit knows about a file format: one frozen record that decoding, encoding and the command line share."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass

from gankit.images.decoded import DecodedImage

UNLIMITED = sys.maxsize


@dataclass(frozen=True)
class Header:
    """What a file declares before any of its pixels is decoded.

    Attributes:
        width: stored pixels in a row; an orientation is not yet applied.
        height: stored rows.
        bytes_per_pixel: memory that decoding takes for each pixel at its peak, estimated; the file itself is not
            counted.
    """

    width: int
    height: int
    bytes_per_pixel: int


@dataclass(frozen=True)
class Format:
    """A file format: how to recognise, read and write it, and what it can hold.

    Adding a format takes a file in this folder that defines ``FORMAT`` and a line in ``formats/__init__.py``.

    Attributes:
        name: lower case, as ``--format`` takes it, for example "jpeg".
        title: as sentences spell it, for example "JPEG".
        suffixes: lower case with the dot, in files that are read and written; results take the first one.
        matches: whether a file is of this format, by its first bytes.
        header: the declared size of a file. Raises any exception on a damaged file.
        decode: the image in a whole file, upright, without ``format``. Raises any exception on a damaged file; the
            text of a ValueError is shown to the user as it is.
        encode: a whole file from an image that was reduced to what the format holds, and a quality of 1 to 100;
            ``None`` for formats that are only read.
        read_only: more suffixes of files that are read; their results take the first of ``suffixes``.
        aliases: further names for ``--format``; each writes files with that name as the suffix.
        hdr: linear light of any range is kept; else it is cut to 0 to 1 and encoded as sRGB.
        sixteen_bit: uint16 is kept; else it is rounded to uint8.
        alpha: transparency is kept; else the image is laid on white.
        gray: a gray image is stored in one channel; else as three equal ones.
        icc: a colour profile is kept.
        cmyk: images from CMYK are stored in CMYK, of 8 bits; else as RGB.
        png_colour: the chunks that say what a PNG's values mean are kept.
        dpi: the resolution is kept.
        exif_bytes: size of the largest EXIF block, 0 for none.
        xmp_bytes: size of the largest XMP packet, 0 for none.
        iptc_bytes: size of the largest IPTC record, 0 for none.
        text: the text chunks of a PNG are kept.
        comment_bytes: size of the largest comment, 0 for none.
        max_side: largest width and height in pixels.
        lossy: ``encode`` uses the quality.
        results: suffix of the results of such files without ``--format``, where another format keeps more; empty for
            the first of ``suffixes``.
        coarse: returns a sentence for each thing that ``encode`` rounds in an image, besides the 16 bits.
    """

    name: str
    title: str
    suffixes: tuple[str, ...]
    matches: Callable[[bytes], bool]
    header: Callable[[bytes], Header]
    decode: Callable[[bytes], DecodedImage]
    encode: Callable[[DecodedImage, int], bytes] | None = None
    read_only: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()
    hdr: bool = False
    sixteen_bit: bool = False
    alpha: bool = False
    gray: bool = True
    icc: bool = False
    cmyk: bool = False
    png_colour: bool = False
    dpi: bool = True
    exif_bytes: int = 0
    xmp_bytes: int = 0
    iptc_bytes: int = 0
    text: bool = False
    comment_bytes: int = 0
    max_side: int = UNLIMITED
    lossy: bool = False
    results: str = ""
    coarse: Callable[[DecodedImage], tuple[str, ...]] = lambda image: ()
