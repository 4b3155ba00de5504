"""The structure of a JPEG stream, and whether its data fill all of its pixels.

libjpeg makes up what is missing: at a marker where data should be it takes zeros, and the rest of the image is gray or
a smear. It counts a warning, which neither Pillow nor imagecodecs pass on, so this module brings about evidence of its
own.

ITU-T T.81, annexes B (markers), F (sequential) and G (progressive).
"""

from __future__ import annotations

import io
import re
import struct
import zlib
from dataclasses import dataclass

import numpy as np
from PIL import Image, JpegImagePlugin

TRUNCATED = "the file ends before its pixels do; it is truncated"

_SOI, _EOI, _SOS = 0xD8, 0xD9, 0xDA
_FRAMES = frozenset({0xC0, 0xC1, 0xC2, 0xC3, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF})
_BARE = frozenset({0x01, *range(0xD0, 0xD9)})  # markers without a length: TEM, RST and SOI
_HUFFMAN = frozenset({0xC0, 0xC1, 0xC2})  # baseline, extended and progressive
_PROGRESSIVE = 0xC2
# Behind 0xFF in a scan: 0 is data, RST is part of the scan, 0xFF is filling; all else ends it.
_SCAN_END = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
_END = b"\xff\xd9"
# libjpeg's bit buffer takes 8 bytes at once. No code consists of ones only: 17 bits of them make one bad code.
_ONES = b"\xff\x00" * 8
# Begin with a one, since zeros are what libjpeg makes up, and mean something in the usual and in optimised codes.
_NOISE = (b"\xb5\xd6" * 32, b"\xed\xb7" * 32)


@dataclass(frozen=True)
class Scan:
    """One scan.

    Attributes:
        components: identifiers of those that it holds.
        first: its first coefficient in zigzag order, 0 to 63.
        last: its last coefficient.
        low: the bits that it leaves for later scans; 0 where the coefficients are exact after it.
        start: offset of its data.
        end: offset behind its data.
    """

    components: tuple[int, ...]
    first: int
    last: int
    low: int
    start: int
    end: int


@dataclass(frozen=True)
class JpegStream:
    """The first image of a file.

    Attributes:
        segments: marker and body of those that are neither frame nor scan, in order.
        frame: marker of the frame, 0xC0 to 0xCF; it names the coding.
        blocks: 8×8 blocks that have a code of their own in the first component's scan, at the least.
        components: identifiers.
        scans: in order, not empty.
        end: offset of the end marker, or of the end of the data where there is none.
        ended: whether there is an end marker.
    """

    segments: tuple[tuple[int, bytes], ...]
    frame: int
    blocks: int
    components: tuple[int, ...]
    scans: tuple[Scan, ...]
    end: int
    ended: bool

    @property
    def is_progressive(self) -> bool:
        """Whether the coefficients come in several scans, each more exact."""
        return self.frame == _PROGRESSIVE

    @property
    def is_one_scan(self) -> bool:
        """Whether a single sequential scan holds all components."""
        return (
            not self.is_progressive and len(self.scans) == 1 and set(self.scans[0].components) == set(self.components)
        )


def open_jpeg(data: bytes) -> JpegImagePlugin.JpegImageFile:
    """Open a JPEG with Pillow; nothing is decoded yet.

    The plug-in directly, not Image.open: its own limit on pixels is a process-wide setting of the host program.
    """
    return JpegImagePlugin.JpegImageFile(io.BytesIO(data))


def open_whole(data: bytes) -> tuple[JpegImagePlugin.JpegImageFile, JpegStream | None]:
    """Decode a JPEG that has all of its pixels.

    Args:
        data: a whole file. Its end marker may be missing.

    Returns:
        The decoded image, and the structure of its file where that could be read.

    Raises:
        ValueError: data are missing.
        Exception: anything that Pillow raises at damaged data; OSError where data are missing.
    """
    stream = read_stream(data)
    if stream is not None and _lacks_data(stream):
        raise ValueError(TRUNCATED)
    files = _versions(data, stream)
    # The other versions go first, and only their checksums stay: two images at once would double the memory.
    others = {_checksum(open_jpeg(file)) for file in files[1:]}
    image = open_jpeg(files[0])
    if others and others != {_checksum(image)}:
        raise ValueError(TRUNCATED)
    image.load()
    return image, stream


def _checksum(image: Image.Image) -> int:
    """Of the pixels, a few rows at a time."""
    checksum = 0
    for top in range(0, image.height, 256):
        part = image.crop((0, top, image.width, min(top + 256, image.height)))
        checksum = zlib.crc32(np.ascontiguousarray(part).data, checksum)
    return checksum


def read_stream(data: bytes) -> JpegStream | None:
    """Walk the markers of the first image.

    Args:
        data: a JPEG file.

    Returns:
        What it consists of; None where it has no frame or no scan, or is no valid stream.
    """
    segments: list[tuple[int, bytes]] = []
    scans: list[Scan] = []
    frame, blocks = 0, 0
    components: tuple[int, ...] = ()
    at, ended = 2, False
    try:
        while at < len(data):
            if data[at] != 0xFF:
                at = data.index(b"\xff", at)  # libjpeg skips such bytes, too
            marker = data[at + 1]
            if marker == 0xFF:
                at += 1
                continue
            if marker == _EOI:
                ended = True
                break
            if marker == 0 or marker in _BARE:
                at += 2
                continue
            size = int.from_bytes(data[at + 2 : at + 4], "big")
            body = data[at + 4 : at + 2 + size]
            at += 2 + size
            if size < 2 or at > len(data):
                return None
            if marker == _SOS:
                found = _SCAN_END.search(data, at)
                end = found.start() if found else len(data) - data.endswith(b"\xff")
                scans.append(_scan(body, at, end))
                at = end
                if not found:
                    break
            elif marker in _FRAMES:
                frame, blocks, components = marker, *_frame(body)
            else:
                segments.append((marker, body))
    except (ValueError, IndexError, struct.error):
        if not scans:
            return None
    if not frame or not scans:
        return None
    return JpegStream(tuple(segments), frame, blocks, components, tuple(scans), at if ended else len(data), ended)


def _frame(body: bytes) -> tuple[int, tuple[int, ...]]:
    """Least number of coded blocks, and the components."""
    height, width, count = struct.unpack_from(">HHB", body, 1)
    parts = [body[6 + 3 * index : 9 + 3 * index] for index in range(count)]
    across = max(part[1] >> 4 for part in parts)
    down = max(part[1] & 15 for part in parts)
    blocks = -(-width // (8 * max(across, 1))) * -(-height // (8 * max(down, 1)))
    return blocks, tuple(part[0] for part in parts)


def _scan(body: bytes, start: int, end: int) -> Scan:
    count = body[0]
    first, last, approximation = body[1 + 2 * count : 4 + 2 * count]
    return Scan(tuple(body[1 : 1 + 2 * count : 2]), first, last, approximation & 15, start, end)


def _lacks_data(stream: JpegStream) -> bool:
    """Whether it is plain without decoding that data are missing.

    That is so where the scans have fewer bits than the image has blocks (each takes at least one), where no scan holds
    a component, or where a progressive image was never brought to full precision; without an end marker also where
    some coefficients were never sent.
    """
    if stream.frame not in _HUFFMAN:
        return False
    if 8 * sum(scan.end - scan.start for scan in stream.scans) < stream.blocks:
        return True
    if not stream.is_progressive:
        return not set(stream.components) <= {one for scan in stream.scans for one in scan.components}
    precision: dict[int, dict[int, int]] = {component: {} for component in stream.components}
    for scan in stream.scans:
        for component in scan.components:
            for coefficient in range(scan.first, min(scan.last, 63) + 1):
                precision.setdefault(component, {})[coefficient] = scan.low
    if any(0 not in sent or any(sent.values()) for sent in precision.values()):
        return True
    return not stream.ended and any(len(sent) < 64 for sent in precision.values())


def _versions(data: bytes, stream: JpegStream | None) -> list[bytes]:
    """The file to decode, then versions of it that must give the same pixels.

    * One sequential scan: without the end marker libjpeg waits for more when data are missing, which Pillow reports.
      Eight bytes of ones stand in for the marker, as it also looks ahead when none are missing. They make up two
      blocks at most; where the file has no end marker, which makes a cut likely, other bytes must give the same pixels.
    * Several scans: libjpeg does not wait at the marker between two. Noise at the end of each scan must not change a
      pixel, since it is read only where data are missing.

    Args:
        data: the whole file.
        stream: of it; None, or of another coding than Huffman's, is decoded as it is.

    Returns:
        One to three files.
    """
    if stream is None or stream.frame not in _HUFFMAN:
        return [data]
    if stream.is_one_scan:
        body = data[: stream.scans[0].end]
        return [body + _ONES, *(body + noise[: len(_ONES) // 2] for noise in _NOISE if not stream.ended)]
    whole = data[: stream.end] + _END
    pieces, at = [], 0
    for scan in stream.scans:
        pieces += [data[at : scan.end], _NOISE[0]]
        at = scan.end
    return [whole, b"".join([*pieces, data[at : stream.end], _END])]
