"""What encode() writes, read back by independent readers; and that gankit's own round trips lose nothing."""

import io
from dataclasses import replace

import imagecodecs
import numpy as np
import pytest
import tifffile
from images_making import exif_block, pattern, profile_of, read_exif, srgb_profile
from PIL import Image

from gankit.errors import ImageError
from gankit.images import FORMATS, DecodedImage, decode, encode, from_array
from gankit.images.formats.png import encode_png

KINDS = [(dtype, channels) for dtype in (np.uint8, np.uint16) for channels in (1, 2, 3, 4)]


def full(**changes):
    """An image with all metadata; its EXIF as decode() leaves it."""
    image = from_array(pattern(**{"dtype": np.uint8, "channels": 3} | changes))
    profile = profile_of(b"GRAY") if image.gray else srgb_profile()
    return replace(image, icc_profile=profile, exif=exif_block(1), dpi=(300.0, 300.0))


@pytest.mark.parametrize(("dtype", "channels"), KINDS)
@pytest.mark.parametrize(("height", "width"), [(37, 53), (1, 1), (1, 7), (64, 3), (65, 1), (200, 2)])
def test_png_read_by_others(dtype, channels, height, width):
    """The writer's own: each size around a strip's edge, by libpng and (8 bit) by Pillow."""
    samples = pattern(height + 3, width + 3, channels, dtype)[:height, :width]
    data = encode_png(from_array(samples))
    # libpng answers a gray column or row in its own shape; the values and their order are what counts.
    assert np.array_equal(imagecodecs.png_decode(data).reshape(samples.shape), samples)
    if dtype == np.uint8 or channels == 1:
        image = Image.open(io.BytesIO(data))
        image.load()
        assert np.array_equal(np.asarray(image).reshape(samples.shape), samples)


@pytest.mark.parametrize(("dtype", "channels"), KINDS)
def test_png_metadata_read_by_pillow(tmp_path, dtype, channels):
    image = full(dtype=dtype, channels=channels)
    encode(image, tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as pillow_image:
        pillow_image.verify()  # every chunk's checksum
    with Image.open(tmp_path / "a.png") as pillow_image:
        assert pillow_image.info["icc_profile"] == image.icc_profile
        assert pillow_image.info["dpi"] == pytest.approx((300, 300), abs=0.02)
        assert read_exif(pillow_image.info["exif"]) == read_exif(image.exif)
    data = (tmp_path / "a.png").read_bytes()
    assert data[data.index(b"eXIf") + 4 :].startswith((b"II*\0", b"MM\0*"))  # as in the specification, no prefix


@pytest.mark.parametrize(("dtype", "channels"), KINDS)
def test_tiff_read_by_tifffile(tmp_path, dtype, channels):
    image = full(dtype=dtype, channels=channels)
    encode(image, tmp_path / "a.tif")
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        page = file.pages[0]
        assert np.array_equal(page.asarray(), image.channels())
        assert page.photometric.name == ("MINISBLACK" if image.gray else "RGB")
        assert [e.name for e in page.extrasamples] == (["UNASSALPHA"] if channels in (2, 4) else [])
        assert page.iccprofile == image.icc_profile
        assert page.tags["XResolution"].value == (300, 1)
        codes = [tag.code for tag in page.tags]
        assert codes == sorted(codes)  # the specification asks for it
        assert {34665, 34853} <= set(codes)


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_tiff_read_by_pillow(tmp_path, channels):
    image = full(channels=channels)
    encode(image, tmp_path / "a.tif")
    with Image.open(tmp_path / "a.tif") as pillow_image:
        assert np.array_equal(np.asarray(pillow_image), image.channels())
        exif = pillow_image.getexif()
        assert exif[0x010F] == "Gankit Camera"
        assert exif.get_ifd(0x8769)[0x9003] == "2024:05:06 07:08:09"
        assert float(exif.get_ifd(0x8769)[0x829A]) == 1 / 250
        assert exif.get_ifd(0x8825)[2] == (51.0, 28.0, 38.0)


@pytest.mark.parametrize("suffix", [".png", ".tiff"])
@pytest.mark.parametrize(("dtype", "channels"), KINDS)
def test_round_trip_is_exact(tmp_path, suffix, dtype, channels):
    """Pixels, alpha, kind, profile, EXIF and resolution come back as they were."""
    image = full(dtype=dtype, channels=channels)
    encode(image, tmp_path / f"a{suffix}")
    again = decode(tmp_path / f"a{suffix}")
    assert np.array_equal(again.pixels, image.pixels)
    assert (again.alpha is None) == (image.alpha is None)
    assert again.alpha is None or np.array_equal(again.alpha, image.alpha)
    assert again.pixels.dtype == dtype
    assert again.gray == image.gray
    assert again.icc_profile == image.icc_profile
    assert again.dpi == pytest.approx(image.dpi, abs=0.02)
    main, sub, gps = read_exif(again.exif)
    assert main[0x010F] == "Gankit Camera"
    assert main[0x0112] == 1
    assert sub[0x9003] == "2024:05:06 07:08:09"
    assert gps[1] == "N"


@pytest.mark.parametrize("suffix", [".jpg", ".webp"])
@pytest.mark.parametrize(("dtype", "channels"), KINDS)
def test_lossy_formats(tmp_path, suffix, dtype, channels):
    smooth = np.zeros((64, 64, 4), np.float64)
    smooth[...] = np.linspace(0, 1, 64)[:, None, None] * [1.0, 0.7, 0.4, 0.0] + [0, 0.1, 0.2, 1.0]
    if channels in (1, 2):
        smooth = smooth[..., [0, 3]]
    samples = np.rint(smooth * np.iinfo(dtype).max).astype(dtype)[..., :channels]
    image = replace(from_array(samples), exif=exif_block(1))
    image = replace(image, icc_profile=profile_of(b"GRAY") if image.gray else srgb_profile())
    encode(image, tmp_path / f"a{suffix}")
    with Image.open(tmp_path / f"a{suffix}") as pillow_image:
        got = np.asarray(pillow_image.convert("RGB")).astype(int)
        assert np.abs(got - image.to_8bit().pixels).max() <= 8
        assert read_exif(pillow_image.info["exif"]) == read_exif(image.exif)
        if suffix == ".jpg":
            assert pillow_image.mode == ("L" if image.gray else "RGB")
            assert pillow_image.info["icc_profile"] == image.icc_profile
        else:
            assert pillow_image.info.get("icc_profile") == (None if image.gray else image.icc_profile)


def test_transparent_webp_stays_transparent(tmp_path):
    image = full(channels=4)
    encode(image, tmp_path / "a.webp")
    with Image.open(tmp_path / "a.webp") as pillow_image:
        assert np.array_equal(np.asarray(pillow_image)[..., 3], image.alpha)


@pytest.mark.parametrize("suffix", [".bmp", ".jpg"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_transparency_is_laid_on_white(tmp_path, suffix, dtype):
    top = np.iinfo(dtype).max
    pixels = np.full((32, 32, 3), top // 5, dtype)
    for share in (0, 0.5, 1):
        alpha = np.full((32, 32), round(top * share), dtype)
        encode(DecodedImage(pixels, alpha), tmp_path / f"a{suffix}")
        with Image.open(tmp_path / f"a{suffix}") as image:
            assert np.abs(np.asarray(image).astype(float) - (51 * share + 255 * (1 - share))).max() <= 1


def test_16_bits_round_to_nearest(tmp_path):
    values = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    encode(from_array(values), tmp_path / "a.bmp")
    with Image.open(tmp_path / "a.bmp") as image:
        assert np.array_equal(np.asarray(image.convert("L")), np.rint(values / 257.0))


def test_quality(tmp_path):
    for suffix in (".jpg", ".webp"):
        sizes = []
        for quality in (30, 95):
            encode(full(), tmp_path / f"a{suffix}", quality=quality)
            sizes.append((tmp_path / f"a{suffix}").stat().st_size)
        assert sizes[0] < sizes[1]


def test_png_is_not_much_larger_than_pillows(data):
    image = Image.open(data / "kodak24" / "05.png").convert("RGB")
    image = image.resize((image.width * 2, image.height * 2), Image.Resampling.BICUBIC)
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    assert len(encode_png(from_array(np.asarray(image)))) < 1.25 * len(buffer.getvalue())


def test_formats_all_write(tmp_path):
    for name, suffix in FORMATS.items():
        encode(full(), tmp_path / f"{name}{suffix}")
        assert decode(tmp_path / f"{name}{suffix}").pixels.shape[:2] == (37, 53)
        if name != "exr":  # which Pillow does not read
            with Image.open(tmp_path / f"{name}{suffix}") as image:
                assert image.size == (53, 37)


def test_formats_that_cannot_hold_it(tmp_path):
    wide = from_array(np.zeros((1, 70000), np.uint8))
    for suffix in (".jpg", ".webp"):
        with pytest.raises(ImageError, match="70000×1; use png"):
            encode(wide, tmp_path / f"a{suffix}")
    with pytest.raises(ImageError, match=r"no format writes '\.psd'; use png"):
        encode(wide, tmp_path / "a.psd")
    assert not list(tmp_path.iterdir())
    encode(wide, tmp_path / "a.png")


def test_profile_of_another_space_is_not_written(tmp_path):
    for suffix in (".png", ".jpg", ".tif", ".webp"):
        encode(replace(full(), icc_profile=profile_of(b"CMYK")), tmp_path / f"a{suffix}")
        with Image.open(tmp_path / f"a{suffix}") as image:
            assert "icc_profile" not in image.info


def test_exif_too_long_for_jpeg(tmp_path):
    exif = Image.Exif()
    exif[0x010E] = "x" * 70000
    image = replace(full(), exif=exif.tobytes())
    encode(image, tmp_path / "a.jpg")
    encode(image, tmp_path / "a.png")
    assert decode(tmp_path / "a.jpg").exif is None
    assert len(decode(tmp_path / "a.png").exif) > 70000
