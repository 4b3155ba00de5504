"""Every kind of file that must be read, written by independent writers."""

import io
import struct

import imagecodecs
import numpy as np
import pytest
import tifffile
from images_making import chunk, exif_block, pattern, png_by_hand, profile_of, read_exif, srgb_profile
from PIL import Image, ImageOps

from gankit.images import SUFFIXES, decode
from gankit.images.metadata import read_exif as split_exif


def save(path, image, **options):
    image.save(path, **options)
    return path


LOSSLESS = {"PNG": ".png", "TIFF": ".tif", "BMP": ".bmp", "WEBP": ".webp"}


@pytest.mark.parametrize("name", LOSSLESS)
def test_rgb(tmp_path, name):
    pixels = pattern()
    options = {"lossless": True} if name == "WEBP" else {}
    image = decode(save(tmp_path / f"a{LOSSLESS[name]}", Image.fromarray(pixels), **options))
    assert image.format == name
    assert np.array_equal(image.pixels, pixels)
    assert image.pixels.flags.c_contiguous
    assert image.alpha is None
    assert not image.gray


@pytest.mark.parametrize("name", ["PNG", "TIFF", "WEBP"])
def test_rgba(tmp_path, name):
    samples = pattern(channels=4)
    samples[..., 3] |= 1
    options = {"lossless": True, "exact": True} if name == "WEBP" else {}
    image = decode(save(tmp_path / f"a{LOSSLESS[name]}", Image.fromarray(samples), **options))
    assert np.array_equal(image.pixels, samples[..., :3])
    assert np.array_equal(image.alpha, samples[..., 3])


@pytest.mark.parametrize("name", ["PNG", "TIFF", "BMP"])
@pytest.mark.parametrize("mode", ["1", "L"])
def test_gray(tmp_path, name, mode):
    pillow_image = Image.fromarray(pattern(channels=1)).convert(mode)
    image = decode(save(tmp_path / f"a{LOSSLESS[name]}", pillow_image))
    assert image.gray
    for c in range(3):
        assert np.array_equal(image.pixels[..., c], np.asarray(pillow_image.convert("L")))


@pytest.mark.parametrize("name", ["PNG", "TIFF"])
def test_gray_alpha(tmp_path, name):
    samples = pattern(channels=2)
    image = decode(save(tmp_path / f"a{LOSSLESS[name]}", Image.fromarray(samples, "LA")))
    assert image.gray
    assert np.array_equal(image.pixels[..., 1], samples[..., 0])
    assert np.array_equal(image.alpha, samples[..., 1])


@pytest.mark.parametrize("name", ["PNG", "TIFF", "BMP"])
def test_palette(tmp_path, name):
    pillow_image = Image.fromarray(pattern()).quantize(16)
    image = decode(save(tmp_path / f"a{LOSSLESS[name]}", pillow_image))
    assert np.array_equal(image.pixels, np.asarray(pillow_image.convert("RGB")))
    assert image.alpha is None
    assert not image.gray


def test_palette_with_alpha(tmp_path):
    pillow_image = Image.fromarray(pattern()).quantize(16)
    path = save(tmp_path / "a.png", pillow_image, transparency=bytes([0, 128, 255]))
    want = np.asarray(Image.open(path).convert("RGBA"))
    assert set(np.unique(want[..., 3])) == {0, 128, 255}
    image = decode(path)
    assert np.array_equal(image.pixels, want[..., :3])
    assert np.array_equal(image.alpha, want[..., 3])


@pytest.mark.parametrize("depth", [1, 2, 4])
def test_few_bits(tmp_path, depth):
    """Small gray depths spread over the full range: the largest value is 255."""
    (tmp_path / "a.png").write_bytes(
        png_by_hand(np.array([[0b00011011]], np.uint8), depth=depth, size=(8 // depth, 1), colour_type=0)
    )
    bits = [int(f"{0b00011011:08b}"[i : i + depth], 2) for i in range(0, 8, depth)]
    assert decode(tmp_path / "a.png").pixels[0, :, 0].tolist() == [b * 255 // ((1 << depth) - 1) for b in bits]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [1, 3])
def test_transparent_colour(tmp_path, dtype, channels):
    """TRNS of a gray or RGB file: one colour is transparent, at full depth."""
    samples = pattern(channels=channels, dtype=dtype)
    key = np.atleast_1d(samples[5, 7]).astype(">u2").tobytes()
    (tmp_path / "a.png").write_bytes(png_by_hand(samples, before=chunk(b"tRNS", key)))
    image = decode(tmp_path / "a.png")
    same = samples == samples[5, 7]
    transparent = same if channels == 1 else same.all(-1)
    assert np.array_equal(image.alpha == 0, transparent)
    assert image.alpha.max() == np.iinfo(dtype).max
    assert np.array_equal(image.pixels[..., 0], samples if channels == 1 else samples[..., 0])


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("writer", ["hand", "imagecodecs"])
def test_png_16_bit(tmp_path, channels, writer):
    samples = pattern(channels=channels, dtype=np.uint16)
    data = png_by_hand(samples) if writer == "hand" else imagecodecs.png_encode(samples)
    (tmp_path / "a.png").write_bytes(data)
    check_samples(decode(tmp_path / "a.png"), samples, channels)


def check_samples(image, samples, channels):
    assert image.pixels.dtype == samples.dtype
    assert image.gray == (channels <= 2)
    colour = samples[..., None] if channels == 1 else samples[..., : 1 if channels == 2 else 3]
    assert np.array_equal(image.pixels, np.broadcast_to(colour, image.pixels.shape))
    if channels in (2, 4):
        assert np.array_equal(image.alpha, samples[..., -1])
    else:
        assert image.alpha is None


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("layout", ["contig", "separate", "tiles", "lzw", "zlib", "big"])
def test_tiff_layouts(tmp_path, dtype, channels, order, layout):
    samples = pattern(channels=channels, dtype=dtype)
    options = {
        "contig": {},
        "separate": {"planarconfig": "separate"} if channels > 1 else {},
        "tiles": {"tile": (16, 16)},
        "lzw": {"compression": "lzw", "predictor": True},
        "zlib": {"compression": "zlib", "rowsperstrip": 5},
        "big": {"bigtiff": True},
    }[layout]
    stored = np.moveaxis(samples, -1, 0) if "planarconfig" in options else samples
    if channels > 1 and "planarconfig" not in options:
        options["planarconfig"] = "contig"
    photometric = "rgb" if channels > 2 else "minisblack"
    extra = ["unassalpha"] if channels in (2, 4) else None
    tifffile.imwrite(
        tmp_path / "a.tif", stored, photometric=photometric, extrasamples=extra, byteorder=order, **options
    )
    check_samples(decode(tmp_path / "a.tif"), samples, channels)


@pytest.mark.parametrize("compression", [None, "jpeg", "tiff_lzw", "packbits", "group4"])
def test_tiff_by_libtiff(tmp_path, compression):
    """What libtiff writes, JPEG in YCbCr and fax among it, is what it reads."""
    image = Image.fromarray(pattern()).convert("1" if compression == "group4" else "RGB")
    image.save(tmp_path / "a.tif", compression=compression)
    with Image.open(tmp_path / "a.tif") as reference:
        want = np.asarray(reference.convert("RGB"))
    assert np.array_equal(decode(tmp_path / "a.tif").pixels, want)


def test_tiff_white_is_zero(tmp_path):
    for dtype in (np.uint8, np.uint16):
        samples = pattern(channels=1, dtype=dtype)
        tifffile.imwrite(tmp_path / "a.tif", samples, photometric="miniswhite")
        assert np.array_equal(decode(tmp_path / "a.tif").pixels[..., 0], np.iinfo(dtype).max - samples)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_tiff_multiplied_alpha(tmp_path, dtype):
    """Associated alpha is divided out; what the alpha hid is only as exact as the file is."""
    samples = pattern(channels=4, dtype=dtype)
    top = np.iinfo(dtype).max
    alpha = samples[..., 3:].astype(np.float64) / top
    stored = np.concatenate([np.rint(samples[..., :3] * alpha), samples[..., 3:]], -1).astype(dtype)
    tifffile.imwrite(tmp_path / "a.tif", stored, photometric="rgb", extrasamples=["assocalpha"])
    image = decode(tmp_path / "a.tif")
    assert np.array_equal(image.alpha, samples[..., 3])
    solid = samples[..., 3] > top // 10
    assert np.abs(image.pixels.astype(int) - samples[..., :3])[solid].max() <= 6


def test_tiff_other_channel_is_not_alpha(tmp_path):
    samples = pattern(channels=4, dtype=np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", samples, photometric="rgb", extrasamples=["unspecified"])
    assert decode(tmp_path / "a.tif").alpha is None


def test_tiff_12_bit(tmp_path):
    samples = pattern(height=8, width=16, channels=1, dtype=np.uint16) >> 4
    bits = "".join(f"{v:012b}" for v in samples.reshape(-1))
    packed = bytes(int(bits[i : i + 8], 2) for i in range(0, len(bits), 8))
    tifffile.imwrite(tmp_path / "a.tif", iter([packed]), shape=(8, 16), dtype=np.uint16, bitspersample=12,
                     photometric="minisblack", rowsperstrip=8)  # fmt: skip
    assert np.array_equal(decode(tmp_path / "a.tif").pixels[..., 0], np.rint(samples / 4095 * 65535))


def test_first_of_many_pages(tmp_path):
    first, second = pattern(), pattern(seed=1)
    tifffile.imwrite(tmp_path / "a.tif", np.stack([first, second]), photometric="rgb")
    frames = [Image.fromarray(first), Image.fromarray(second)]
    frames[0].save(tmp_path / "a.png", save_all=True, append_images=frames[1:])
    frames[0].save(tmp_path / "a.webp", save_all=True, append_images=frames[1:], lossless=True)
    for suffix in (".tif", ".png", ".webp"):
        assert np.array_equal(decode(tmp_path / f"a{suffix}").pixels, first)


def test_cmyk(tmp_path):
    """CMYK becomes RGB, and its profile is not attached to that."""
    pillow_image = Image.fromarray(pattern()).convert("CMYK")
    for name in ("a.jpg", "a.tif"):
        pillow_image.save(tmp_path / name, icc_profile=profile_of(b"CMYK"))
        image = decode(tmp_path / name)
        want = np.asarray(Image.open(tmp_path / name).convert("RGB"))
        assert np.array_equal(image.pixels, want)
        assert image.icc_profile is None
        assert image.cmyk_profile is None
        assert image.notes == (
            "CMYK without a usable colour profile is converted by a plain formula, and its result is RGB",
        )


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tif"])
def test_orientation(tmp_path, orientation, suffix):
    path = tmp_path / f"a{suffix}"
    block = exif_block(orientation)
    pillow_image = Image.fromarray(pattern())
    if suffix == ".png":
        path.write_bytes(png_by_hand(pattern(), after=chunk(b"eXIf", block[6:])))  # after the pixels, as is allowed
    else:
        pillow_image.save(path, exif=block)
    reference = Image.open(path)
    reference.load()
    want = np.asarray(ImageOps.exif_transpose(reference))
    image = decode(path)
    assert np.array_equal(image.pixels, want)
    assert image.pixels.flags.c_contiguous
    main, sub, gps = read_exif(image.exif)
    assert main[0x0112] == 1
    assert main[0x010F] == "Gankit Camera"
    assert sub[0x9003] == "2024:05:06 07:08:09"
    assert gps[2] == (51.0, 28.0, 38.0)


def test_orientation_16_bit_and_alpha(tmp_path):
    samples = pattern(channels=4, dtype=np.uint16)
    extra = [(0x0112, 3, 1, 6, True)]
    tifffile.imwrite(tmp_path / "a.tif", samples, photometric="rgb", extrasamples=["unassalpha"], extratags=extra)
    image = decode(tmp_path / "a.tif")
    assert np.array_equal(image.pixels, np.rot90(samples[..., :3], -1))
    assert np.array_equal(image.alpha, np.rot90(samples[..., 3], -1))


def test_exif_loses_what_no_longer_holds(tmp_path):
    Image.fromarray(pattern()).save(tmp_path / "a.jpg", exif=exif_block(6, thumbnail=True))
    block = decode(tmp_path / "a.jpg").exif
    assert block.startswith(b"Exif\0\0")
    exif = Image.Exif()
    exif.load(block)
    assert not exif.get_ifd(0x1)
    sub = exif.get_ifd(0x8769)
    assert 0xA002 not in sub
    assert 0xA003 not in sub
    assert float(sub[0x829A]) == 1 / 250


def test_broken_exif_costs_nothing_but_itself(tmp_path):
    for block in (b"Exif\0\0junk", b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0"):
        Image.fromarray(pattern()).save(tmp_path / "a.jpg", exif=block)
        (tmp_path / "a.png").write_bytes(png_by_hand(pattern(), before=chunk(b"eXIf", block[6:])))
        for name in ("a.jpg", "a.png"):
            assert decode(tmp_path / name).pixels.shape == (37, 53, 3)


def test_exif_that_fails_half_way():
    """An image that lies on its side is worse than one without EXIF."""

    class Broken(Image.Exif):
        def get_ifd(self, tag):
            raise struct.error("unpack requires a buffer of 12 bytes")

    broken = Broken()
    broken[0x0112] = 6
    assert split_exif(broken) == (6, None)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tif"])
def test_profile_and_resolution(tmp_path, suffix):
    options = {} if suffix == ".webp" else {"dpi": (300, 150)}
    Image.fromarray(pattern()).save(tmp_path / f"a{suffix}", icc_profile=srgb_profile(), **options)
    image = decode(tmp_path / f"a{suffix}")
    assert image.icc_profile == srgb_profile()
    if options:
        assert image.dpi == pytest.approx((300, 150), abs=0.02)


def test_profile_must_fit_the_pixels(tmp_path):
    gray = Image.fromarray(pattern(channels=1))
    gray.save(tmp_path / "a.png", icc_profile=profile_of(b"GRAY"))
    assert decode(tmp_path / "a.png").icc_profile == profile_of(b"GRAY")
    gray.save(tmp_path / "a.png", icc_profile=srgb_profile())
    assert decode(tmp_path / "a.png").icc_profile is None


def test_content_counts_not_the_suffix(tmp_path):
    buffer = io.BytesIO()
    Image.fromarray(pattern()).save(buffer, "PNG")
    (tmp_path / "a.jpg").write_bytes(buffer.getvalue())
    assert decode(tmp_path / "a.jpg").format == "PNG"


def test_suffixes():
    assert {".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp"} <= SUFFIXES


def test_agrees_with_pillow_on_photographs(data):
    for path in sorted((data / "kodak24").glob("*.png"))[:3]:
        assert np.array_equal(decode(path).pixels, np.asarray(Image.open(path).convert("RGB")))


def test_gif(tmp_path):
    """Colours, a transparent one, and the comment."""
    colours = Image.fromarray(pattern()).quantize(64)
    save(tmp_path / "a.gif", colours, comment=b"by hand")
    image = decode(tmp_path / "a.gif")
    assert np.array_equal(image.pixels, np.asarray(colours.convert("RGB")))
    assert (image.format, image.alpha, image.gray, image.comment, image.notes) == ("GIF", None, False, b"by hand", ())
    save(tmp_path / "a.gif", colours, transparency=5)
    with Image.open(tmp_path / "a.gif") as reference:
        want = np.asarray(reference.convert("RGBA"))
    image = decode(tmp_path / "a.gif")
    assert 0 < (image.alpha == 0).sum() < image.alpha.size
    assert np.array_equal(image.channels(), want)
