"""Files that are no images, or not whole, or too large: one clear line each."""

import contextlib
import errno
import io
import os
import struct
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest
import tifffile
from images_making import chunk, pattern, png_by_hand, srgb_profile
from PIL import Image

from gankit.errors import ImageError
from gankit.images import decode


def file_of(name):
    """An image's bytes, and its pixels as they decode when whole."""
    buffer = io.BytesIO()
    if name == "tiff16":
        tifffile.imwrite(buffer, pattern(dtype=np.uint16), photometric="rgb", compression="zlib", rowsperstrip=8)
    elif name == "tiff16 raw":
        tifffile.imwrite(buffer, pattern(dtype=np.uint16), photometric="rgb", rowsperstrip=8)
    elif name == "tiff lzw":
        tifffile.imwrite(buffer, pattern(), photometric="rgb", compression="lzw", rowsperstrip=8)
    elif name == "gif":
        Image.fromarray(pattern(channels=1)).save(buffer, "GIF")
    else:
        options = {"lossless": True} if name == "webp" else {"progressive": True} if name == "jpeg progressive" else {}
        Image.fromarray(pattern()).save(buffer, name.split()[0], **options)
    return buffer.getvalue()


NAMES = ["png", "jpeg", "jpeg progressive", "webp", "tiff", "tiff lzw", "tiff16", "tiff16 raw", "bmp", "gif"]


@pytest.mark.parametrize("name", NAMES)
def test_truncated(tmp_path, name):
    """At any length a file is refused, or (its last bytes carry no pixels) decodes to the very pixels."""
    data = file_of(name)
    path = tmp_path / "a"
    path.write_bytes(data)
    whole = decode(path).pixels
    refused, message = 0, ""
    lengths = sorted({*range(1, len(data), max(1, len(data) // 60)), *range(len(data) - 24, len(data))})
    for length in lengths:
        path.write_bytes(data[:length])
        try:
            image = decode(path)
        except ImageError as caught:
            refused += 1
            message = str(caught)
        else:
            assert np.array_equal(image.pixels, whole), f"cut at {length} of {len(data)}"
            assert length >= len(data) - 24 or name.startswith("tiff")
    assert refused >= 50
    assert message.startswith(str(path))
    assert "\n" not in message


def test_truncated_is_named_so(tmp_path):
    for name in ("png", "jpeg", "tiff", "tiff16", "webp", "bmp"):
        data = file_of(name)
        (tmp_path / "a").write_bytes(data[: len(data) // 2])
        with pytest.raises(ImageError, match=r"truncated|damaged"):
            decode(tmp_path / "a")


def test_damaged_png(tmp_path):
    data = bytearray(file_of("png"))
    for at in range(50, len(data) - 20, 97):
        broken = bytearray(data)
        broken[at] ^= 0xFF
        (tmp_path / "a.png").write_bytes(broken)
        with pytest.raises(ImageError):
            decode(tmp_path / "a.png")


def test_random_damage_never_escapes(tmp_path):
    """Whatever the decoders raise comes out as an ImageError."""
    generator = np.random.default_rng(0)
    for name in NAMES:
        data = file_of(name)
        for _ in range(25):
            broken = bytearray(data)
            for at in generator.integers(0, len(data), 4):
                broken[at] = generator.integers(256)
            (tmp_path / "a").write_bytes(broken)
            with contextlib.suppress(ImageError):
                decode(tmp_path / "a")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", r"the file is empty \(0 bytes\)"),
        (b"just some words\n", "not a PNG, JPEG, WebP, TIFF, BMP, GIF, AVIF, JPEG XL, HEIC or OpenEXR image"),
        (b"8BPS" + bytes(50), "a Photoshop image, which gankit does not read"),
        (b"\x89PNG\r\n\x1a\n", "damaged|header"),
        (b"\x00" * 1000, "not a PNG"),
        (b"\xff\xd8\xff", "truncated|damaged"),
        (b"II*\0", "truncated|damaged"),
        (b"BM", "truncated|damaged"),
    ],
)
def test_no_image(tmp_path, content, reason):
    path = tmp_path / "a.png"
    path.write_bytes(content)
    with pytest.raises(ImageError, match=reason) as caught:
        decode(path)
    assert caught.value.path == path
    assert "\n" not in str(caught.value)


def test_no_file(tmp_path):
    with pytest.raises(ImageError, match="no such file"):
        decode(tmp_path / "a.png")
    with pytest.raises(ImageError, match="is a folder"):
        decode(tmp_path)
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(ImageError, match="not a regular file"):
        decode(tmp_path / "pipe.png")


def test_unreadable(tmp_path, monkeypatch):
    (tmp_path / "a.png").write_bytes(file_of("png"))
    if os.geteuid():
        (tmp_path / "a.png").chmod(0)
    else:  # root reads everything

        def refuse(self):
            raise PermissionError(errno.EACCES, "Permission denied")

        monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(ImageError, match="permission denied"):
        decode(tmp_path / "a.png")


def bomb_png(width, height):
    return png_by_hand(np.zeros((1, 1), np.uint8), size=(width, height), colour_type=2)


def bomb(name):
    size = 60000
    if name == "png":
        return bomb_png(size, size)
    if name == "bmp":
        return struct.pack("<2sIHHIIiiHHIIiiII", b"BM", 100, 0, 0, 54, 40, size, size, 1, 24, 0, 0, 0, 0, 0, 0) + bytes(
            9
        )
    data = bytearray(file_of(name))
    if name == "jpeg":
        at = data.index(b"\xff\xc0") + 5
        data[at : at + 4] = struct.pack(">HH", size, size)
    else:
        for tag in (256, 257):
            at = data.index(struct.pack("<HH", tag, 4), 8)
            data[at : at + 12] = struct.pack("<HHII", tag, 4, 1, size)
    return bytes(data)


@pytest.mark.parametrize("name", ["png", "jpeg", "tiff", "bmp"])
def test_bomb_is_refused_by_its_header(tmp_path, name):
    (tmp_path / "a").write_bytes(bomb(name))
    tracemalloc.start()
    with pytest.raises(ImageError, match="60000×60000 is more than the limit of 250 million pixels"):
        decode(tmp_path / "a")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 5e6


@pytest.mark.parametrize("name", NAMES)
def test_limit_is_the_callers(tmp_path, name):
    (tmp_path / "a").write_bytes(file_of(name))
    assert decode(tmp_path / "a", max_pixels=37 * 53).pixels.shape == (37, 53, 3)
    with pytest.raises(ImageError, match="53×37 is more than the limit"):
        decode(tmp_path / "a", max_pixels=37 * 53 - 1)


def test_limit_does_not_depend_on_pillows(tmp_path, monkeypatch):
    """But for WebP and odd TIFFs, where Pillow asks its own (179 million pixels); then at least the reason is clear."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    for name in NAMES:
        (tmp_path / "a").write_bytes(file_of(name))
        if name == "webp":
            with pytest.raises(ImageError, match="too large"):
                decode(tmp_path / "a")
        else:
            assert decode(tmp_path / "a").pixels.shape == (37, 53, 3)


def test_profile_bomb_is_left_out(tmp_path):
    body = b"x\0\0" + zlib.compress(srgb_profile() + bytes(100_000_000), 9)
    (tmp_path / "a.png").write_bytes(png_by_hand(pattern(), before=chunk(b"iCCP", body)))
    assert decode(tmp_path / "a.png").icc_profile is None


def test_damaged_metadata_is_left_out(tmp_path):
    """The checksum of a chunk that is not pixels is wrong: the pixels are right, the profile is not to be trusted."""
    profile = chunk(b"iCCP", b"x\0\0" + zlib.compress(srgb_profile()))
    for checksum, want in ((profile[-4:], srgb_profile()), (b"\0\0\0\0", None)):
        (tmp_path / "a.png").write_bytes(png_by_hand(pattern(), before=profile[:-4] + checksum))
        image = decode(tmp_path / "a.png")
        assert np.array_equal(image.pixels, pattern())
        assert image.icc_profile == want


@pytest.mark.parametrize("tag", [tifffile.TIFF.TAGS["StripOffsets"], tifffile.TIFF.TAGS["StripByteCounts"]])
def test_tiff_with_a_strip_missing(tmp_path, tag):
    """A sparse file: readers fill the strip with zeros, which is not the image."""
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        writer.write(pattern(), photometric="rgb", compression="zlib", rowsperstrip=8)
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        place = file.pages[0].tags[tag].valueoffset
        width = {3: 2, 4: 4}[file.pages[0].tags[tag].dtype]
    data = bytearray((tmp_path / "a.tif").read_bytes())
    data[place : place + width] = bytes(width)
    (tmp_path / "a.tif").write_bytes(data)
    with pytest.raises(ImageError, match="truncated"):
        decode(tmp_path / "a.tif")


def test_empty_size(tmp_path):
    (tmp_path / "a.png").write_bytes(bomb_png(0, 5))
    with pytest.raises(ImageError, match="holds no pixels"):
        decode(tmp_path / "a.png")


@pytest.mark.parametrize(
    ("dtype", "reason"),
    [(np.uint32, "32-bit integer"), (np.int16, "16-bit signed integer")],
)
def test_tiff_of_other_numbers(tmp_path, dtype, reason):
    tifffile.imwrite(tmp_path / "a.tif", np.ones((8, 8, 3), dtype), photometric="rgb")
    with pytest.raises(ImageError, match=f"{reason}.*convert it to 8"):
        decode(tmp_path / "a.tif")
