"""GIF: the first frame, with transparency and comment. Results become PNG, unless the user asks for GIF.

A GIF holds 256 colours and no partial transparency. ``gankit.images.frames`` reads and writes animations.
"""

from __future__ import annotations

import io
from dataclasses import replace

from PIL import GifImagePlugin

from gankit.images.decoded import DecodedImage
from gankit.images.formats.base import UNLIMITED, Format, Header
from gankit.images.pillow import from_pil


def _open(data: bytes) -> GifImagePlugin.GifImageFile:
    return GifImagePlugin.GifImageFile(io.BytesIO(data))


def _read_header(data: bytes) -> Header:
    return Header(*_open(data).size, 14)  # indices, Pillow's colours, the array and a copy of it


def _decode(data: bytes) -> DecodedImage:
    image = _open(data)
    image.load()
    decoded = from_pil(image)
    frames = _open(data).n_frames  # of another one, since it moves on to the last frame
    note = f"only the first of {frames} frames is used"
    return replace(decoded, notes=(note, *decoded.notes)) if frames > 1 else decoded


def _encode(image: DecodedImage, quality: int) -> bytes:
    from gankit.images.gif_file import TRAILER, header, image_block

    height, width = image.pixels.shape[:2]
    return header(width, height, comment=image.comment) + image_block(image) + TRAILER


def _coarse(image: DecodedImage) -> tuple[str, ...]:
    from gankit.images.gif_file import lost

    return lost(image)


FORMAT = Format(
    name="gif",
    title="GIF",
    suffixes=(".gif",),
    matches=lambda data: data.startswith((b"GIF87a", b"GIF89a")),
    header=_read_header,
    decode=_decode,
    encode=_encode,
    alpha=True,
    dpi=False,
    comment_bytes=UNLIMITED,
    max_side=65535,
    results=".png",
    coarse=_coarse,
)
