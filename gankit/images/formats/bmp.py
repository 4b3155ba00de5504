"""BMP, through Pillow: pixels and resolution, nothing else."""

from __future__ import annotations

import io

from PIL import BmpImagePlugin, Image

from gankit.images.decoded import DecodedImage
from gankit.images.formats.base import Format, Header
from gankit.images.pillow import from_pil


def _open(data: bytes) -> BmpImagePlugin.BmpImageFile:
    return BmpImagePlugin.BmpImageFile(io.BytesIO(data))


def _read_header(data: bytes) -> Header:
    image = _open(data)
    return Header(*image.size, 6 if image.mode in ("1", "L") else 10)


def _decode(data: bytes) -> DecodedImage:
    image = _open(data)
    image.load()
    return from_pil(image)


def _encode(image: DecodedImage, quality: int) -> bytes:
    buffer = io.BytesIO()
    options: dict[str, object] = {}
    if image.dpi:
        options["dpi"] = tuple(min(max(round(value), 1), 65535) for value in image.dpi)
    Image.fromarray(image.channels()).save(buffer, "BMP", **options)
    return buffer.getvalue()


FORMAT = Format(
    name="bmp",
    title="BMP",
    suffixes=(".bmp", ".dib"),
    matches=lambda data: data.startswith(b"BM"),
    header=_read_header,
    decode=_decode,
    encode=_encode,
)
