"""BMP, through Pillow: pixels and resolution, nothing else."""

from __future__ import annotations

import io

from PIL import BmpImagePlugin, Image

from gankit.images.decoded import DecodedImage
from gankit.images.formats.base import Format, Header
from gankit.images.pillow import from_pil

_RUN_LENGTHS = (1, 2)  # values of biCompression
_FEW_PIXELS = 1_000_000


def _open(data: bytes) -> BmpImagePlugin.BmpImageFile:
    return BmpImagePlugin.BmpImageFile(io.BytesIO(data))


def _read_header(data: bytes) -> Header:
    image = _open(data)
    _check_runs(data, image.width * image.height)
    return Header(*image.size, 6 if image.mode in ("1", "L") else 10)


def _check_runs(data: bytes, pixels: int) -> None:
    """Refuse a file in run-length coding whose size lies, because Pillow fills each missing pixel in a loop of Python.

    Raises:
        ValueError: it declares more than a million pixels, and more than its runs of at most 255 can hold.
    """
    if int.from_bytes(data[30:34], "little") in _RUN_LENGTHS and pixels > max(_FEW_PIXELS, 128 * len(data)):
        raise ValueError(f"the file is damaged (its {len(data)} bytes cannot hold {pixels} pixels)")


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
