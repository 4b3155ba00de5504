"""OpenEXR, by its reference library (the extra `exr`): linear light of any range, with chromaticities.

Read are the colours or the gray values, and the transparency, of the first part. Results are float16 or float32 as the
source, losslessly compressed (ZIP).
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from gankit.images.alpha import unmultiply_linear
from gankit.images.decoded import DecodedImage, from_linear, full_scale
from gankit.images.formats.base import Format, Header
from gankit.images.hdr import Hdr, linear_light, to_linear
from gankit.images.jpeg_stream import TRUNCATED

_MISSING = "an OpenEXR image needs the package OpenEXR: pip install 'gankit[exr]', or convert it to TIFF first"
_MAGIC = b"\x76\x2f\x31\x01"
_MULTIPART, _DEEP = 0x1000, 0x0800
_LONGEST = 255  # name of an attribute
_SIZES = {0: 4, 1: 2, 2: 4}  # bytes of uint, half and float
_LINES = {
    b"\0": 1,
    b"\1": 1,
    b"\2": 1,
    b"\3": 16,
    b"\4": 32,
    b"\5": 16,
    b"\6": 32,
    b"\7": 32,
    b"\x08": 32,
    b"\x09": 256,
}
"""Rows of a chunk by the compression."""
_TRUNCATED = "the file ends within its header; it is truncated"


def _library() -> Any:
    """The library.

    Raises:
        ValueError: it is not installed.
    """
    try:
        import OpenEXR
    except ImportError:
        raise ValueError(_MISSING) from None
    return OpenEXR


@dataclass(frozen=True)
class _Part:
    """What the header of a part declares."""

    size: tuple[int, int]
    channels: Mapping[str, tuple[int, int, int]]  # type, and sampling across and down
    attributes: Mapping[str, bytes]
    end: int  # of its header in the file

    @property
    def pixel_bytes(self) -> int:
        return sum(_SIZES.get(kind, 4) for kind, _, _ in self.channels.values())


def _parts(data: bytes) -> list[_Part]:
    """Parse the headers (openexr.com, "OpenEXR File Layout"), which hold no compressed data."""
    if len(data) < 8:
        raise ValueError(_TRUNCATED)
    flags = int.from_bytes(data[4:8], "little")
    if flags & 0xFF != 2:
        raise ValueError(f"version {flags & 0xFF} of OpenEXR; convert it to version 2")
    if flags & _DEEP:
        raise ValueError("a deep OpenEXR image, whose pixels hold several values; flatten it first")
    parts, at = [], 8
    while True:
        attributes: dict[str, bytes] = {}
        while data[at : at + 1] != b"\0":
            name, at = _text(data, at)
            _, at = _text(data, at)
            (size,) = struct.unpack_from("<i", data, at)
            if size < 0 or at + 4 + size > len(data):
                raise ValueError(_TRUNCATED)
            attributes[name] = data[at + 4 : at + 4 + size]
            at += 4 + size
        at += 1
        if attributes:
            parts.append(_part(attributes, at))
        if not attributes or not flags & _MULTIPART:
            return parts


def _text(data: bytes, at: int) -> tuple[str, int]:
    end = data.find(b"\0", at, at + _LONGEST + 1)
    if end < 0:
        raise ValueError(_TRUNCATED)
    return data[at:end].decode("latin-1"), end + 1


def _part(attributes: Mapping[str, bytes], end: int) -> _Part:
    if "dataWindow" not in attributes or "channels" not in attributes:
        raise ValueError("the file is damaged (its header has no dataWindow or channels)")
    left, top, right, bottom = struct.unpack("<4i", attributes["dataWindow"])
    return _Part((right - left + 1, bottom - top + 1), dict(_channels(attributes["channels"])), attributes, end)


def _channels(block: bytes) -> Iterator[tuple[str, tuple[int, int, int]]]:
    at = 0
    while block[at : at + 1] != b"\0":
        name, at = _text(block, at)
        kind, _, across, down = struct.unpack_from("<iIii", block, at)
        yield name, (kind, across, down)
        at += 16


def _read_header(data: bytes) -> Header:
    _library()
    parts = _parts(data)
    if not parts:
        raise ValueError(_TRUNCATED)
    # The library reads every part; a later one must not be larger than what is checked.
    width, height = max((part.size for part in parts), key=lambda size: size[0] * size[1])
    if any(min(part.size) < 1 for part in parts):
        return Header(0, 0, 0)
    # The channels as they are stored and in float32, encoded light and what its computation takes.
    return Header(width, height, sum(part.pixel_bytes for part in parts) + 72)


def _decode(data: bytes) -> DecodedImage:
    library = _library()
    first, *others = _parts(data)
    names = _wanted(first)
    _check_complete(data, first, [first, *others])
    try:
        with library.File(io.BytesIO(data), separate_channels=True, num_threads=0) as file:
            found = file.channels()
            planes = [np.asarray(found[name].pixels) for name in names]
    except MemoryError:
        raise
    except Exception as error:  # its text says that there are no parts, whatever the cause
        raise ValueError("the file is damaged (OpenEXR cannot read its pixels)") from error
    width, height = first.size
    if any(plane.shape != (height, width) for plane in planes):
        raise ValueError("the file is damaged (a channel has another size than the image)")
    samples = np.stack([plane.astype(np.float32) for plane in planes], axis=-1)
    notes = list(_notes(first, names, len(others)))
    if len(names) in (2, 4):
        colour, alpha = samples[..., :-1], samples[..., -1]
        if bool(((alpha <= 0) & (colour != 0).any(axis=2)).any()):
            notes.append("light of fully transparent pixels is dropped")
        samples = np.concatenate([unmultiply_linear(colour, alpha), alpha[..., None]], axis=2)
    hdr = Hdr(
        half=all(plane.dtype == np.float16 for plane in planes),
        chromaticities=_floats(first, "chromaticities", 8),
        aspect=(_floats(first, "pixelAspectRatio", 1) or (1.0,))[0],
    )
    decoded = from_linear(samples, hdr)
    return replace(decoded, notes=(*decoded.notes, *notes))


def _check_complete(data: bytes, part: _Part, parts: list[_Part]) -> None:
    """Refuse a file of one part with chunks behind its end: the library would report them on stderr.

    Raises:
        ValueError: a chunk is missing.
    """
    lines = _LINES.get(part.attributes.get("compression", b""))
    if len(parts) > 1 or lines is None or "tiles" in part.attributes:
        return
    chunks = -(-part.size[1] // lines)
    if len(data) < part.end + 8 * chunks:
        raise ValueError(TRUNCATED)
    offsets = np.frombuffer(data, "<u8", chunks, part.end)
    if bool((offsets < part.end).any()) or bool((offsets > len(data) - 8).any()):
        raise ValueError(TRUNCATED)
    last = int(offsets.max())
    if last + 8 + int.from_bytes(data[last + 4 : last + 8], "little") > len(data):
        raise ValueError(TRUNCATED)


def _wanted(part: _Part) -> list[str]:
    """The channels of the image.

    Raises:
        ValueError: there is no image among the channels.
    """
    names = set(part.channels)
    if {"R", "G", "B"} <= names:
        wanted = ["R", "G", "B"]
    elif {"RY", "BY"} & names:
        raise ValueError("OpenEXR of luminance and chroma; convert it to RGB")
    elif "Y" in names:
        wanted = ["Y"]
    elif len(names) == 1:
        return list(names)
    else:
        listed = ", ".join(sorted(names)[:8])
        raise ValueError(f"OpenEXR without the channels R, G and B, or Y; it has {listed}")
    wanted += ["A"] if "A" in names else []
    if any(part.channels[name][1:] != (1, 1) for name in wanted):
        raise ValueError("OpenEXR with subsampled channels; convert it to RGB")
    return wanted


def _floats(part: _Part, name: str, count: int) -> tuple[float, ...] | None:
    """An attribute of floats; ``None`` where it is missing, or not finite and positive as these are."""
    block = part.attributes.get(name, b"")
    if len(block) != 4 * count:
        return None
    values = struct.unpack(f"<{count}f", block)
    return values if bool(np.isfinite(values).all()) and values[-1] > 0 else None


def _notes(part: _Part, names: list[str], others: int) -> Iterator[str]:
    if others:
        yield f"only the first of {others + 1} parts is used"
    if rest := sorted(set(part.channels) - set(names)):
        more = f" and {len(rest) - 4} more" if len(rest) > 4 else ""
        yield f"the channels {', '.join(rest[:4])}{more} are dropped"
    if part.attributes.get("displayWindow", b"") not in (b"", part.attributes["dataWindow"]):
        yield "only the data window is used; the display window is dropped"


def _encode(image: DecodedImage, quality: int) -> bytes:
    library = _library()
    if image.hdr is None:  # a display-encoded image, which becomes linear light
        half = image.pixels.itemsize == 1
        values = image.pixels.astype(np.float32) / full_scale(image.pixels.dtype)
        hdr, light = Hdr(half=half), linear_light(values)
    else:
        hdr, light = image.hdr, to_linear(image.pixels, image.hdr)
    kind = np.float16 if hdr.half else np.float32
    alpha = None
    if image.alpha is not None:
        alpha = np.clip(image.alpha.astype(np.float32) / full_scale(image.alpha.dtype), 0, 1)
        light = light * alpha[..., None]
    planes = {"Y": light[..., 0]} if image.gray else dict(zip("RGB", np.moveaxis(light, -1, 0), strict=True))
    if alpha is not None:
        planes["A"] = alpha
    header: dict[str, Any] = {"compression": library.ZIP_COMPRESSION, "type": library.scanlineimage}
    if hdr.chromaticities is not None:
        header["chromaticities"] = tuple(hdr.chromaticities)
    if hdr.aspect != 1:
        header["pixelAspectRatio"] = hdr.aspect
    buffer = io.BytesIO()
    stored = {name: np.ascontiguousarray(plane.astype(kind)) for name, plane in planes.items()}
    with library.File(header, stored, num_threads=0) as file:
        file.write(buffer)
    return buffer.getvalue()


FORMAT = Format(
    name="exr",
    title="OpenEXR",
    suffixes=(".exr",),
    matches=lambda data: data.startswith(_MAGIC),
    header=_read_header,
    decode=_decode,
    encode=_encode,
    hdr=True,
    sixteen_bit=True,
    alpha=True,
    dpi=False,
    max_side=(1 << 30) - 1,
)
