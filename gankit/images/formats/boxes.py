"""What the files built of ISO boxes share (ISO/IEC 14496-12): AVIF and HEIC."""

from __future__ import annotations


def brands(data: bytes) -> frozenset[bytes]:
    """The major and the compatible brands of a file; empty for a file that does not begin with an ``ftyp`` box."""
    if data[4:8] != b"ftyp":
        return frozenset()
    end = min(int.from_bytes(data[:4], "big"), len(data), 256)
    return frozenset(data[at : at + 4] for at in (8, *range(16, end - 3, 4)))
