"""CMYK in and CMYK out, through a real profile of a press; libvips, Pillow and tifffile check the results."""

from dataclasses import replace

import numpy as np
import pytest
import tifffile
from images_making import cmyk_profile, pattern, profile_of, srgb_profile
from PIL import Image, ImageCms

from gankit.images import decode, encode
from gankit.images.cmyk import NOTE, ONE_WAY_NOTE
from gankit.images.encode import fitting
from gankit.images.formats import writer_of
from gankit.images.row_writers import encode_rows
from gankit.images.rows import header_of, open_rows

INTENT = {"renderingIntent": ImageCms.Intent.RELATIVE_COLORIMETRIC, "flags": ImageCms.Flags.BLACKPOINTCOMPENSATION}


def inks(profile):
    """An image in CMYK whose colours lie within sRGB, as a separation of a photograph makes it."""
    muted = (pattern(40, 56) // 2 + 70).astype(np.uint8)
    return through(Image.fromarray(muted), srgb_profile(), profile, "CMYK")


def through(image, source, target, mode):
    """What littlecms makes of an image, without gankit."""
    import io

    profiles = (ImageCms.ImageCmsProfile(io.BytesIO(each)) for each in (source, target))
    return ImageCms.profileToProfile(image, *profiles, outputMode=mode, **INTENT)


@pytest.fixture(scope="module")
def profile():
    return cmyk_profile()


@pytest.fixture(params=["a.jpg", "a.tif"])
def source(request, tmp_path, profile):
    options = {"quality": 100, "subsampling": 0} if request.param == "a.jpg" else {}
    inks(profile).save(tmp_path / request.param, icc_profile=profile, **options)
    return tmp_path / request.param


@pytest.mark.parametrize("suffix", [".jpg", ".tif"])
def test_the_round_trip_keeps_kind_profile_and_colours(source, tmp_path, profile, suffix):
    image = decode(source)
    assert (image.icc_profile, image.cmyk_profile, image.notes) == (None, profile, (NOTE,))
    with Image.open(source) as stored:
        stored.load()
        wanted = np.asarray(through(stored, profile, srgb_profile(), "RGB"))
        np.testing.assert_allclose(image.pixels.astype(int), wanted, atol=1)  # a profile in a file is rounded
        before = np.asarray(stored).astype(int)
    assert encode(image, tmp_path / f"made{suffix}", quality=100) == ()
    with Image.open(tmp_path / f"made{suffix}") as made:
        assert (made.mode, made.info["icc_profile"]) == ("CMYK", profile)
        after = np.asarray(made).astype(int)
        seen = np.asarray(through(made, profile, srgb_profile(), "RGB")).astype(int)
    assert np.abs(seen - image.pixels).mean() < 2  # the colours, as well as the tables of the profile invert each other
    assert np.abs(seen - image.pixels).max() <= 16
    assert np.abs(before - after).mean() < 6, np.abs(before - after).mean()  # the inks, which are those of the profile
    again = decode(tmp_path / f"made{suffix}")
    assert again.cmyk_profile == profile
    if suffix == ".tif":
        np.testing.assert_allclose(again.pixels.astype(int), seen, atol=1)


def test_libvips_sees_the_colours_of_the_result(tmp_path, profile):
    pyvips = pytest.importorskip("pyvips")
    inks(profile).save(tmp_path / "a.tif", icc_profile=profile)
    image = decode(tmp_path / "a.tif")
    for suffix in (".jpg", ".tif"):
        encode(image, tmp_path / f"made{suffix}", quality=100)
        made = pyvips.Image.new_from_file(str(tmp_path / f"made{suffix}"))
        assert (made.interpretation, made.bands) == ("cmyk", 4)
        seen = made.icc_transform("srgb", embedded=True, intent="relative", black_point_compensation=True).numpy()
        assert np.abs(seen.astype(int) - image.pixels).mean() < 2


@pytest.mark.parametrize("suffix", [".png", ".webp", ".bmp"])
def test_other_formats_get_rgb_and_say_so(source, tmp_path, suffix):
    image = decode(source)
    assert any("does not hold CMYK" in note for note in encode(image, tmp_path / f"made{suffix}"))
    with Image.open(tmp_path / f"made{suffix}") as made:
        assert made.mode == "RGB"
        assert "icc_profile" not in made.info


@pytest.mark.parametrize(
    "bad", [None, b"no profile", profile_of(b"CMYK"), srgb_profile()], ids=["none", "broken", "empty", "rgb"]
)
@pytest.mark.parametrize("suffix", [".jpg", ".tif"])
def test_without_a_usable_profile_the_result_is_rgb(tmp_path, bad, suffix):
    Image.fromarray(pattern()).convert("CMYK").save(tmp_path / f"a{suffix}", **({"icc_profile": bad} if bad else {}))
    image = decode(tmp_path / f"a{suffix}")
    assert image.cmyk_profile is None
    assert [note for note in image.notes if "its result is RGB" in note]
    assert encode(image, tmp_path / f"made{suffix}") == ()
    with Image.open(tmp_path / f"made{suffix}") as made:
        assert (made.mode, "icc_profile" in made.info) == ("RGB", False)


def test_a_profile_of_one_direction_gives_rgb(tmp_path, profile):
    one_way = profile
    for name in (b"B2A0", b"B2A1", b"B2A2"):
        one_way = one_way[:400].replace(name, b"x" + name[1:]) + one_way[400:]  # in the table of tags
    inks(profile).save(tmp_path / "a.tif", icc_profile=one_way)
    image = decode(tmp_path / "a.tif")
    assert (image.cmyk_profile, image.notes) == (None, (ONE_WAY_NOTE,))
    assert encode(image, tmp_path / "made.tif") == ()
    with Image.open(tmp_path / "made.tif") as made:
        assert made.mode == "RGB"


def test_transparency_and_gray_have_no_inks(tmp_path, profile):
    image = replace(decode_inks(tmp_path, profile), gray=True)
    fitted, notes = fitting(image, writer_of(".tif"))
    assert fitted.cmyk_profile is None
    assert notes == ("TIFF does not hold CMYK that is gray or transparent",)


def decode_inks(tmp_path, profile):
    inks(profile).save(tmp_path / "inks.tif", icc_profile=profile)
    return decode(tmp_path / "inks.tif")


@pytest.mark.parametrize("with_profile", [True, False])
def test_a_tiff_is_read_and_written_by_strips(tmp_path, profile, with_profile):
    options = {"iccprofile": profile} if with_profile else {}
    pixels = np.asarray(inks(profile))
    tifffile.imwrite(
        tmp_path / "a.tif",
        pixels,
        photometric="separated",
        rowsperstrip=7,
        compression="zlib",
        metadata=None,
        **options,
    )
    whole = decode(tmp_path / "a.tif")
    rows = open_rows(tmp_path / "a.tif", header_of(tmp_path / "a.tif"))
    assert (rows.head.cmyk_profile, rows.head.notes) == (whole.cmyk_profile, whole.notes)
    np.testing.assert_array_equal(np.concatenate(list(rows.read())), whole.pixels)
    strips = (replace(whole, pixels=part) for part in np.split(whole.pixels, [9, 30]))
    assert encode_rows(rows.head, (56, 40), strips, tmp_path / "strips.tif") == ()
    encode(whole, tmp_path / "whole.tif")
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "strips.tif"), tifffile.imread(tmp_path / "whole.tif"))
    assert tifffile.imread(tmp_path / "strips.tif").shape == (40, 56, 4 if with_profile else 3)


@pytest.mark.parametrize("adobe", [True, False], ids=["adobe", "plain"])
@pytest.mark.parametrize("with_profile", [True, False])
def test_a_jpeg_is_read_and_written_by_strips(tmp_path, profile, with_profile, adobe):
    pytest.importorskip("pyvips", reason="pyvips reads JPEG by rows: pip install 'gankit[large]'")
    options = {"icc_profile": profile} if with_profile else {}
    inks(profile).save(tmp_path / "a.jpg", quality=90, **options)
    if not adobe:
        data = (tmp_path / "a.jpg").read_bytes()
        (tmp_path / "a.jpg").write_bytes(data.replace(b"\xff\xee\0\x0eAdobe", b"\xff\xee\0\x0eOther"))
    whole = decode(tmp_path / "a.jpg")
    rows = open_rows(tmp_path / "a.jpg", header_of(tmp_path / "a.jpg"))
    assert (rows.head.cmyk_profile, rows.head.notes) == (whole.cmyk_profile, whole.notes)
    for _ in range(2):
        np.testing.assert_array_equal(np.concatenate(list(rows.read())), whole.pixels)
    strips = (replace(whole, pixels=part) for part in np.split(whole.pixels, [9, 30]))
    assert encode_rows(rows.head, (56, 40), strips, tmp_path / "strips.jpg", quality=95) == ()
    encode(whole, tmp_path / "whole.jpg", quality=95)
    with Image.open(tmp_path / "strips.jpg") as made, Image.open(tmp_path / "whole.jpg") as wanted:
        assert (made.mode, made.info.get("icc_profile")) == (wanted.mode, wanted.info.get("icc_profile"))
        assert made.mode == ("CMYK" if with_profile else "RGB")
        difference = np.abs(np.asarray(made).astype(int) - np.asarray(wanted))
        assert difference.max() <= 2  # another encoder
    assert decode(tmp_path / "strips.jpg").cmyk_profile == whole.cmyk_profile
