"""IPTC-IIM records (title, author, keywords of press photographs) and the Photoshop resources that carry them.

IPTC-NAA Information Interchange Model 4.2; Adobe Photoshop File Formats Specification, "Image Resource Blocks".
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

_IPTC = 0x0404
_SIGNATURES = (b"8BIM", b"8BPS", b"PHUT", b"DCSR", b"AgHg")


def read_resources(block: bytes) -> bytes | None:
    """The IPTC record in a block of Photoshop resources.

    Args:
        block: one resource after another, without the header of a JPEG segment.

    Returns:
        The record, or None. Thumbnails, clipping paths and what else such blocks hold belong to the old image.
    """
    return next((body for number, body in _resources(block) if number == _IPTC and body.startswith(b"\x1c")), None)


def read_iptc(value: object) -> bytes | None:
    """A record that stands alone, or in a block of Photoshop resources; None for anything else."""
    if not isinstance(value, bytes):
        return None
    if value.startswith(_SIGNATURES):
        return read_resources(value)
    return value.rstrip(b"\0") if value.startswith(b"\x1c") else None


def pack_resources(iptc: bytes) -> bytes:
    """A block of Photoshop resources that holds an IPTC record."""
    return struct.pack(">4sHHI", b"8BIM", _IPTC, 0, len(iptc)) + iptc + bytes(len(iptc) % 2)


def _resources(block: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while block[at : at + 4] in _SIGNATURES and at + 12 <= len(block):
        (number,) = struct.unpack_from(">H", block, at + 4)
        at += 6 + (block[6 + at] + 2) // 2 * 2  # a name with its length, padded to an even size
        if at + 4 > len(block):
            return
        (size,) = struct.unpack_from(">I", block, at)
        yield number, block[at + 4 : at + 4 + size]
        at += 4 + size + size % 2
