"""Image files that gankit does not read, so that messages can name them and the way out."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

_KINDS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("JPEG 2000", (".jp2", ".j2k", ".jpx")),
    ("Radiance HDR", (".hdr",)),
    ("Photoshop", (".psd", ".psb")),
    ("SVG", (".svg", ".svgz")),
    ("camera raw", (".dng", ".cr2", ".cr3", ".nef", ".arw", ".orf", ".rw2", ".raf")),
    ("PNM", (".pnm", ".pbm", ".pgm", ".ppm", ".pam")),
    ("TGA", (".tga",)),
)
UNREAD: Mapping[str, str] = MappingProxyType({suffix: kind for kind, suffixes in _KINDS for suffix in suffixes})
"""Name of the kind by the suffix, in lower case, of image files that are not read."""

_MAGIC: tuple[tuple[int, bytes, str], ...] = (
    (0, b"\0\0\0\x0cjP  ", "JPEG 2000"),
    (0, b"\xff\x4f\xff\x51", "JPEG 2000"),
    (0, b"#?RADIANCE", "Radiance HDR"),
    (0, b"8BPS", "Photoshop"),
    (4, b"ftypcrx ", "camera raw"),
)


def unread_kind(data: bytes) -> str | None:
    """An image that gankit does not read, such as "a HEIC", by its first bytes; None for all else."""
    kind = next((kind for at, magic, kind in _MAGIC if data.startswith(magic, at)), None)
    return kind and f"{'an' if kind[0] in 'AO' else 'a'} {kind}"
