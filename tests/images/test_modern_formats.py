"""AVIF, JPEG XL and HEIC: pixels, depth, orientation and metadata, against files that other libraries wrote."""

import io
import sys
from dataclasses import replace

import imagecodecs
import numpy as np
import pytest
from images_making import exif_block, pattern, srgb_profile
from PIL import Image

from gankit.errors import ImageError
from gankit.images import decode, encode, from_array
from gankit.images.formats.boxes import brands
from gankit.images.formats.jxl import _size


def smooth(height=40, width=56):
    """(H, W, 3) uint8 that codecs keep nearly whole."""
    y, x = np.mgrid[:height, :width]
    return np.stack([y * 255 // height, x * 255 // width, (x + y) * 255 // (height + width)], -1).astype(np.uint8)


def test_avif_as_others_read_and_write_it(tmp_path):
    path = tmp_path / "a.avif"
    profile = srgb_profile()  # holds the time
    options = {"quality": 95, "subsampling": "4:4:4", "icc_profile": profile}
    Image.fromarray(smooth()).save(path, exif=exif_block(6), **options)
    image = decode(path)
    assert image.format == "AVIF"
    assert image.icc_profile == profile
    assert Image.Exif().load(image.exif) is None
    with Image.open(io.BytesIO(path.read_bytes())) as plain:
        stored = np.asarray(plain)
    assert np.array_equal(image.pixels, np.rot90(stored, -1)), "orientation 6 is a quarter turn"
    notes = encode(replace(image, dpi=None), tmp_path / "b.avif", quality=95)
    assert notes == ()
    again = decode(tmp_path / "b.avif")
    assert np.abs(again.pixels.astype(int) - image.pixels).mean() < 1.5
    assert (again.icc_profile, again.exif) == (image.icc_profile, image.exif)


@pytest.mark.parametrize("bits", [10, 12])
def test_avif_of_more_than_8_bits_is_kept_in_16(tmp_path, bits):
    values = np.linspace(0, 2**bits - 1, 40 * 56 * 3).reshape(40, 56, 3).astype(np.uint16)
    data = imagecodecs.avif_encode(values, level=100, bitspersample=bits, pixelformat="444")
    (tmp_path / "a.avif").write_bytes(data)
    pixels = decode(tmp_path / "a.avif").pixels
    assert pixels.dtype == np.uint16
    stored = imagecodecs.avif_decode(data).astype(np.float64)
    np.testing.assert_allclose(pixels, stored * 65535 / (2**bits - 1), atol=0.51)
    assert len(np.unique(pixels >> 2)) > 256


def test_a_gray_avif_and_one_of_several_frames(tmp_path):
    Image.fromarray(smooth()[..., 0]).save(tmp_path / "g.avif")
    assert decode(tmp_path / "g.avif").gray
    frames = [Image.fromarray(np.roll(smooth(), step, 1)) for step in range(3)]
    frames[0].save(tmp_path / "m.avif", save_all=True, append_images=frames[1:], duration=100)
    assert decode(tmp_path / "m.avif").notes[0] == "only the first of 3 frames is used"


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_jpeg_xl_that_another_library_wrote(tmp_path, dtype, channels):
    pytest.importorskip("pillow_jxl", reason="the extra jxl is not installed")
    values = pattern(channels=channels, dtype=dtype)
    (tmp_path / "a.jxl").write_bytes(imagecodecs.jpegxl_encode(values, lossless=True))
    image = decode(tmp_path / "a.jxl")
    assert np.array_equal(image.channels(), values.squeeze())
    assert image.pixels.dtype == dtype
    assert (image.icc_profile is None) == (dtype == np.uint8), "that library's 16 bits are linear, and say so"


def test_jpeg_xl_round_trip_and_a_jpeg_inside(tmp_path):
    pytest.importorskip("pillow_jxl", reason="the extra jxl is not installed")
    image = replace(from_array(smooth()), exif=exif_block(1))
    assert encode(image, tmp_path / "a.jxl", quality=95) == ()
    again = decode(tmp_path / "a.jxl")
    assert np.abs(again.pixels.astype(int) - image.pixels).mean() < 1.5
    assert again.exif == decode_exif(image.exif)
    assert imagecodecs.jpegxl_decode((tmp_path / "a.jxl").read_bytes()).shape == image.pixels.shape


def decode_exif(block):
    from gankit.images.metadata import parse_exif, read_exif

    return read_exif(parse_exif(block))[1]


@pytest.mark.parametrize("sides", [(8, 8), (8, 12), (256, 256), (257, 300), (40, 30), (3, 7), (1080, 1920), (1, 5000)])
def test_the_declared_size_of_a_jpeg_xl(sides):
    """The size header is read before anything is decoded; libjxl wrote it."""
    data = imagecodecs.jpegxl_encode(np.zeros((*sides, 3), np.uint8), effort=1)
    assert _size(data) == sides[::-1]


def heic(tmp_path, **options):
    pillow_heif = pytest.importorskip("pillow_heif", reason="the extra heif is not installed")
    file = pillow_heif.from_bytes("RGB", smooth().shape[1::-1], smooth().tobytes())
    file.save(tmp_path / "a.heic", quality=95, chroma=444, **options)
    return tmp_path / "a.heic"


def test_heic(tmp_path):
    path = heic(tmp_path, exif=exif_block(1), icc_profile=srgb_profile())
    assert brands(path.read_bytes()) & {b"heic", b"heix"}
    image = decode(path)
    assert image.format == "HEIC"
    assert np.abs(image.pixels.astype(int) - smooth()).mean() < 1.5
    assert image.exif
    with pytest.raises(ImageError, match=r"no format writes '\.heic'"):
        encode(image, tmp_path / "b.heic")
    with pytest.raises(ImageError, match="more than the limit"):
        decode(path, max_pixels=100)
    path.write_bytes(path.read_bytes()[:-300])
    with pytest.raises(ImageError):
        decode(path)


@pytest.mark.parametrize(
    ("module", "data", "extra"),
    [
        ("pillow_heif", b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(50), "heif"),
        ("pillow_jxl", b"\xff\x0a" + bytes(50), "jxl"),
    ],
)
def test_without_the_library_the_way_out_is_named(tmp_path, monkeypatch, module, data, extra):
    monkeypatch.setitem(sys.modules, module, None)
    (tmp_path / "a.png").write_bytes(data)
    with pytest.raises(ImageError, match=rf"pip install 'gankit\[{extra}\]', or convert it"):
        decode(tmp_path / "a.png")


@pytest.mark.parametrize(
    "data", [b"\xff\x0a", b"\xff\x0a\xff", b"\0\0\0\x0cJXL \r\n\x87\n", b"\0\0\0\x18ftypavif" + bytes(50)]
)
def test_files_that_end_early(tmp_path, data):
    (tmp_path / "a.png").write_bytes(data)
    with pytest.raises(ImageError):
        decode(tmp_path / "a.png")
