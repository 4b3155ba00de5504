"""Text in PNG files: the chunks that are kept, and the profiles that older programs hide in them.

ImageMagick and ExifTool wrote EXIF, XMP and IPTC as hexadecimal text under the keyword "Raw profile type …" before PNG
had an eXIf chunk, and files of that kind are still common.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from dataclasses import dataclass

from gankit.images.decoded import Chunks, DecodedImage
from gankit.images.iptc import pack_resources, read_iptc

TEXT_CHUNKS = frozenset({b"tEXt", b"zTXt", b"iTXt"})
XMP_KEYWORD = b"XML:com.adobe.xmp"
_RAW = b"Raw profile type "
_XMP_HEADER = b"http://ns.adobe.com/xap/1.0/\0"
_MAX_INFLATED = 16 << 20  # real colour profiles reach about 4 MB; more is a decompression bomb
_MAX_KEPT = 16 << 20
# ImageMagick repeats EXIF entries as text; these no longer hold for a new image.
_STALE = frozenset(
    {b"exif:Orientation", b"tiff:Orientation", b"exif:ExifImageWidth", b"exif:ExifImageLength"}
    | {b"exif:PixelXDimension", b"exif:PixelYDimension", b"exif:ImageWidth", b"exif:ImageLength"}
)


@dataclass(frozen=True)
class PngText:
    """What a PNG's text chunks hold.

    Attributes:
        kept: the chunks that are text for people and programs, as (name, body).
        exif: a raw EXIF block.
        xmp: an XMP packet.
        iptc: an IPTC-IIM record.
    """

    kept: Chunks = ()
    exif: bytes | None = None
    xmp: bytes | None = None
    iptc: bytes | None = None


def read_text(chunks: Iterable[tuple[bytes, bytes]]) -> PngText:
    """Sort text chunks into text and profiles; damaged ones are left out.

    Args:
        chunks: tEXt, zTXt and iTXt chunks in the order of the file, as (name, body).

    Returns:
        The text and the first profile of each kind; an XMP packet in its own chunk counts before one in hexadecimal.
    """
    kept: list[tuple[bytes, bytes]] = []
    profiles: dict[str, bytes] = {}
    raw_xmp = None
    for name, body in chunks:
        keyword, found, rest = body.partition(b"\0")
        if not found or not 1 <= len(keyword) <= 79 or keyword in _STALE:
            continue
        if name == b"iTXt" and keyword == XMP_KEYWORD:
            profiles.setdefault("xmp", _international(rest) or b"")
        elif keyword.startswith(_RAW):
            profile = _raw_profile(_text(name, rest))
            kind = keyword[len(_RAW) :].strip().lower()
            if profile is None:
                continue
            if profile.startswith(_XMP_HEADER):
                raw_xmp = raw_xmp or profile[len(_XMP_HEADER) :]
            elif kind == b"xmp":
                raw_xmp = raw_xmp or profile
            elif kind in (b"exif", b"app1"):
                profiles.setdefault("exif", profile)
            elif kind in (b"iptc", b"8bim"):
                iptc = read_iptc(profile)
                if iptc:
                    profiles.setdefault("iptc", iptc)
        elif sum(len(one) for _, one in kept) + len(body) <= _MAX_KEPT:
            kept.append((name, body))
    xmp = profiles.get("xmp") or raw_xmp
    return PngText(tuple(kept), profiles.get("exif"), xmp, profiles.get("iptc"))


def text_chunks(image: DecodedImage) -> Chunks:
    """The chunks that hold an image's text, XMP packet, IPTC record and comment."""
    chunks = list(image.png_text)
    if image.xmp:
        chunks.append((b"iTXt", XMP_KEYWORD + bytes(5) + image.xmp))
    if image.iptc:
        chunks.append(
            (b"zTXt", _RAW + b"iptc\0\0" + zlib.compress(_as_raw_profile(b"iptc", pack_resources(image.iptc))))
        )
    if image.comment and not any(body.startswith(b"Comment\0") for _, body in chunks):
        chunks.append(_comment(image.comment))
    return tuple(chunks)


def keywords(chunks: Chunks) -> list[str]:
    """The keywords of text chunks, each once and printable."""
    names = (body.partition(b"\0")[0].decode("latin-1") for _, body in chunks)
    return list(dict.fromkeys("".join(one if one.isprintable() else "?" for one in name) for name in names))


def inflate(data: bytes) -> bytes | None:
    """A zlib stream's content; None where it is damaged, cut short, or unreasonably large."""
    try:
        inflater = zlib.decompressobj()
        content = inflater.decompress(data, _MAX_INFLATED)
    except zlib.error:
        return None
    return content if inflater.eof else None


def _text(name: bytes, rest: bytes) -> bytes | None:
    """The text of a chunk behind its keyword."""
    if name == b"tEXt":
        return rest
    return inflate(rest[1:]) if name == b"zTXt" else _international(rest)


def _international(rest: bytes) -> bytes | None:
    """The text of an iTXt chunk behind its keyword: two flags, language, translated keyword, text."""
    parts = rest[2:].split(b"\0", 2)
    if len(parts) < 3:
        return None
    return inflate(parts[2]) if rest[0] else parts[2]


def _raw_profile(text: bytes | None) -> bytes | None:
    r"""The bytes behind ``\nkind\n   length\nhexadecimal digits in lines``."""
    parts = (text or b"").lstrip(b"\n").split(b"\n", 2)
    if len(parts) < 3:
        return None
    try:
        profile = bytes.fromhex(b"".join(parts[2].split()).decode("ascii"))
        length = int(parts[1])
    except ValueError:
        return None
    return profile[:length] if 0 < length <= len(profile) else None


def _as_raw_profile(kind: bytes, profile: bytes) -> bytes:
    digits = profile.hex().encode()
    lines = [digits[at : at + 72] for at in range(0, len(digits), 72)]
    return b"\n%b\n%8d\n%b\n" % (kind, len(profile), b"\n".join(lines))


def _comment(comment: bytes) -> tuple[bytes, bytes]:
    """A comment as text: of UTF-8 where it is that, else of Latin-1; a PNG's text holds no zero bytes."""
    comment = comment.rstrip(b"\0").replace(b"\0", b" ")
    try:
        comment.decode("utf-8")
    except UnicodeDecodeError:
        return b"tEXt", b"Comment\0" + comment
    return (b"tEXt", b"Comment\0" + comment) if comment.isascii() else (b"iTXt", b"Comment" + bytes(5) + comment)
