"""Small files of every format that gankit reads, and damage done to them. The same seed does the same damage."""

import io
import random
import struct
import zlib
from collections.abc import Iterator
from functools import cache
from importlib.util import find_spec

import numpy as np
import tifffile
from PIL import Image

WIDTH, HEIGHT = 37, 29  # unlike each other, and found in few other places of a header
_PNG = b"\x89PNG\r\n\x1a\n"
_SIZES = (0, 1, 2, 255, 4096, 16_000, 65_535, 1 << 20, (1 << 31) - 1, 1 << 31, (1 << 32) - 1)


def _pixels(channels: int = 3, dtype: type = np.uint8, seed: int = 0) -> np.ndarray:
    top = np.iinfo(dtype).max
    noise = np.random.default_rng(seed).integers(0, top // 8, (HEIGHT, WIDTH, channels), dtype=np.uint32)
    slope = np.linspace(0, top * 0.8, WIDTH)[None, :, None].astype(np.uint32)
    image = (noise + slope).astype(dtype)
    return image[..., 0] if channels == 1 else image


def _saved(image: Image.Image, format: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def _tiff(pixels: np.ndarray, **options: object) -> bytes:
    buffer = io.BytesIO()
    photometric = "rgb" if pixels.ndim == 3 and pixels.shape[-1] in (3, 4) else "minisblack"
    tifffile.imwrite(buffer, pixels, photometric=photometric, **options)
    return buffer.getvalue()


@cache
def whole_files() -> dict[str, list[bytes]]:
    """Return undamaged files by the name of their format. Formats whose library is missing have none."""
    rgb, rgba, gray = (Image.fromarray(_pixels(channels)) for channels in (3, 4, 1))
    deep, exif = _pixels(3, np.uint16), Image.Exif()
    exif[274], exif[270] = 6, "a description"
    frames = [Image.fromarray(_pixels(3, seed=seed)) for seed in (1, 2)]
    several = {"save_all": True, "append_images": frames, "duration": 40}
    profile = {"exif": exif.tobytes(), "icc_profile": _profile()}
    files = {
        "png": [
            _saved(rgb, "PNG", **profile),
            _saved(rgba, "PNG"),
            _saved(rgb.quantize(16), "PNG"),
            _saved(gray.convert("1"), "PNG"),
            _saved(Image.fromarray(_pixels(1, np.uint16)), "PNG"),
            _saved(rgb, "PNG", **several),
        ],
        "jpeg": [
            _saved(rgb, "JPEG", **profile),
            _saved(rgb, "JPEG", progressive=True),
            _saved(gray, "JPEG", comment="a comment"),
            _saved(rgb.convert("CMYK"), "JPEG"),
            _saved(rgb, "JPEG", subsampling=0, restart_marker_blocks=2),
        ],
        "webp": [
            _saved(rgb, "WEBP", **profile),
            _saved(rgba, "WEBP", lossless=True),
            _saved(rgba, "WEBP"),
            _saved(rgb, "WEBP", **several),
        ],
        "tiff": [
            _saved(rgb, "TIFF", compression="jpeg"),
            _saved(gray.convert("1"), "TIFF", compression="group4"),
            _saved(rgb.convert("CMYK"), "TIFF"),
            _tiff(_pixels(), compression="lzw", rowsperstrip=8),
            _tiff(_pixels(4), compression="packbits"),
            _tiff(deep, compression="zlib", predictor=True),
            _tiff(deep, bigtiff=True, byteorder=">"),
            _tiff(_pixels().astype(np.float32) / 200, tile=(16, 16)),
            _tiff(_pixels(1).astype(np.float16)),
            _tiff(np.stack([_pixels(), _pixels(seed=1)])),
        ],
        "bmp": [_saved(rgb, "BMP"), _saved(rgba, "BMP"), _saved(rgb.quantize(16), "BMP"), _rle_bmp()],
        "gif": [_saved(rgb.quantize(16), "GIF"), _saved(rgb, "GIF", **several, transparency=0, disposal=2)],
        "avif": [_saved(rgb, "AVIF", **profile), _saved(rgba, "AVIF", quality=100), _saved(rgb, "AVIF", **several)],
        "jxl": [],
        "heic": [],
        "exr": [],
    }
    files["jxl"] = [*_jxl()]
    files["heic"] = [*_heic(rgb, rgba)]
    files["exr"] = [*_exr()]
    return files


def _profile() -> bytes:
    from PIL import ImageCms

    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def _rle_bmp() -> bytes:
    palette = b"".join(struct.pack("<BBBB", n, n, n, 0) for n in range(256))
    body = b"".join(bytes([WIDTH, row, 0, 0]) for row in range(HEIGHT)) + b"\0\1"
    start = 54 + len(palette)
    header = struct.pack("<IiiHHIIiiII", 40, WIDTH, HEIGHT, 1, 8, 1, len(body), 0, 0, 256, 0)
    return b"BM" + struct.pack("<IHHI", start + len(body), 0, 0, start) + header + palette + body


def _jxl() -> Iterator[bytes]:
    if find_spec("imagecodecs") is None:
        return
    import imagecodecs

    if imagecodecs.JPEGXL.available:
        yield imagecodecs.jpegxl_encode(_pixels(), distance=1.0)
        yield imagecodecs.jpegxl_encode(_pixels(3, np.uint16), lossless=True, usecontainer=True)
        yield imagecodecs.jpegxl_encode(_pixels(4), lossless=True)


def _heic(*images: Image.Image) -> Iterator[bytes]:
    if find_spec("pillow_heif") is None:
        return
    import pillow_heif

    for image in images:
        buffer = io.BytesIO()
        pillow_heif.from_pillow(image).save(buffer)
        yield buffer.getvalue()


def _exr() -> Iterator[bytes]:
    from gankit.images.decoded import DecodedImage
    from gankit.images.formats import exr

    if exr.FORMAT.encode is not None:
        light = _pixels().astype(np.float32) / 100
        yield exr.FORMAT.encode(DecodedImage(light), 95)
        yield exr.FORMAT.encode(DecodedImage(light, alpha=np.full((HEIGHT, WIDTH), 0.5, np.float32)), 95)


def damaged(data: bytes, other: bytes, rng: random.Random) -> tuple[str, bytes]:
    """Return what was done to a file, and the file.

    Args:
        data: a whole file.
        other: another one, of which parts are taken.
        rng: decides.
    """
    kinds = [_flipped, _flipped, _truncated, _spliced, _repeated, _lying, _lying, _overwritten]
    if data.startswith(_PNG):
        kinds.append(_chunks)
    names = []
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        kind = rng.choice(kinds)
        data = kind(data, other, rng)
        names.append(kind.__name__[1:])
    if data.startswith(_PNG) and rng.random() < 0.7:
        data = _with_checksums(data)  # a decoder looks no further at a chunk whose checksum is wrong
    return "+".join(names), data


def _place(data: bytes, rng: random.Random) -> int:
    """Return a place, in half of the cases near the start, where headers are."""
    end = max(1, len(data))
    return rng.randrange(min(end, 256)) if rng.random() < 0.5 else rng.randrange(end)


def _flipped(data: bytes, other: bytes, rng: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.choice((1, 2, 8, 64))):
        if changed:
            changed[_place(data, rng)] ^= 1 << rng.randrange(8)
    return bytes(changed)


def _overwritten(data: bytes, other: bytes, rng: random.Random) -> bytes:
    at, length = _place(data, rng), rng.choice((1, 2, 4, 8))
    return data[:at] + rng.choice((b"\0", b"\xff", b"\x7f", b"\x80")) * length + data[at + length :]


def _truncated(data: bytes, other: bytes, rng: random.Random) -> bytes:
    return data[: rng.randrange(1, max(2, len(data)))]


def _spliced(data: bytes, other: bytes, rng: random.Random) -> bytes:
    start = rng.randrange(max(1, len(other)))
    part = other[start : start + rng.choice((4, 16, 64, 512))]
    at = _place(data, rng)
    return data[:at] + part + data[at + (len(part) if rng.random() < 0.5 else 0) :]


def _repeated(data: bytes, other: bytes, rng: random.Random) -> bytes:
    start = _place(data, rng)
    end = start + rng.choice((1, 8, 40, 200))
    return data[:end] + data[start:end] * rng.choice((1, 2, 50, 1000)) + data[end:]


def _lying(data: bytes, other: bytes, rng: random.Random) -> bytes:
    """Another width or height wherever the true one is found, or another number in a place of a header."""
    order, wide = rng.choice("<>"), rng.choice("HI")
    limit = (1 << 16 if wide == "H" else 1 << 32) - 1
    value = struct.pack(order + wide, min(rng.choice(_SIZES), limit))
    true = struct.pack(order + wide, rng.choice((WIDTH, HEIGHT, WIDTH - 1, HEIGHT - 1)))
    at = data.find(true)
    if at < 0:
        at = _place(data, rng)
    return data[:at] + value + data[at + len(value) :]


def _chunks(data: bytes, other: bytes, rng: random.Random) -> bytes:
    """Chunks of a PNG left out, repeated and exchanged."""
    parts = _chunk_list(data)
    for _ in range(rng.choice((1, 2, 5))):
        if not parts:
            break
        at, to = rng.randrange(len(parts)), rng.randrange(len(parts))
        action = rng.choice(("drop", "repeat", "exchange", "rename"))
        if action == "drop":
            del parts[at]
        elif action == "repeat":
            parts[to:to] = [parts[at]] * rng.choice((1, 3, 500))
        elif action == "exchange":
            parts[at], parts[to] = parts[to], parts[at]
        else:
            parts[at] = (parts[to][0], parts[at][1])
    return _PNG + b"".join(struct.pack(">I", len(body)) + name + body + b"\0\0\0\0" for name, body in parts)


def _chunk_list(data: bytes) -> list[tuple[bytes, bytes]]:
    parts, at = [], len(_PNG)
    while at + 8 <= len(data):
        (length,) = struct.unpack_from(">I", data, at)
        parts.append((data[at + 4 : at + 8], data[at + 8 : at + 8 + length]))
        at += 12 + length
    return parts


def _with_checksums(data: bytes) -> bytes:
    parts, at = [data[: len(_PNG)]], len(_PNG)
    while at + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, at)
        if at + 12 + length > len(data):
            break
        covered = data[at + 4 : at + 8 + length]
        parts.append(data[at : at + 4] + covered + struct.pack(">I", zlib.crc32(covered)))
        at += 12 + length
    return b"".join(parts) + data[at:]
