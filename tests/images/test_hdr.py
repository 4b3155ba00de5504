"""Linear light: OpenEXR and floating-point TIFF in and out, against OpenEXR and tifffile."""

from dataclasses import replace

import numpy as np
import pytest
import tifffile

from gankit.errors import ImageError
from gankit.images import decode, encode
from gankit.images.hdr import encoded, linear_light
from tests.images.images_making import pattern

LIGHT = np.random.default_rng(0).normal(1, 2, (20, 31, 3)).astype(np.float32)


@pytest.fixture
def openexr():
    return pytest.importorskip("OpenEXR", reason="needs the extra exr")


def write_exr(openexr, path, channels, **header):
    options = {"compression": openexr.ZIP_COMPRESSION, "type": openexr.scanlineimage, **header}
    with openexr.File(options, {name: np.ascontiguousarray(plane) for name, plane in channels.items()}) as file:
        file.write(str(path))


def read_exr(openexr, path):
    with openexr.File(str(path), separate_channels=True) as file:
        return {name: channel.pixels.copy() for name, channel in file.channels().items()}, dict(file.header())


def srgb(linear):
    """The transfer function of IEC 61966-2-1, in float64."""
    linear = np.asarray(linear, np.float64)
    return np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * np.maximum(linear, 1e-9) ** (1 / 2.4) - 0.055)


def test_the_curve_is_that_of_srgb_smooth_at_1_and_inverted_everywhere():
    inside = np.linspace(0, 1, 1001, dtype=np.float32)
    assert np.abs(encoded(inside) - srgb(inside)).max() < 1e-6
    steps = np.diff(encoded(np.array([0.999, 1, 1.001], np.float32)))
    assert steps[1] == pytest.approx(steps[0], rel=2e-3)
    values = np.concatenate([-np.logspace(-6, 5, 300), np.logspace(-6, 5, 300)]).astype(np.float32)
    assert np.all(np.diff(encoded(np.sort(values))) > 0)
    assert np.abs(linear_light(encoded(values)) / values - 1).max() < 2e-5


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_an_exr_comes_back_with_its_values(openexr, tmp_path, dtype):
    """Values above 1 and below 0, the type, the transparency and the primaries."""
    alpha = np.linspace(0.25, 1, 20 * 31, dtype=np.float32).reshape(20, 31)
    planes = {name: (LIGHT[..., index] * alpha).astype(dtype) for index, name in enumerate("RGB")}
    primaries = (0.708, 0.292, 0.17, 0.797, 0.131, 0.046, 0.3127, 0.329)
    write_exr(openexr, tmp_path / "a.exr", {**planes, "A": alpha.astype(dtype)}, chromaticities=primaries)
    image = decode(tmp_path / "a.exr", hdr=True)
    assert image.pixels.dtype == np.float32
    assert image.pixels.min() == 0
    assert image.pixels.max() == pytest.approx(1, abs=1e-6)
    assert any(note.startswith("linear values from -") for note in image.notes)
    assert encode(image, tmp_path / "b.exr") == ()
    found, header = read_exr(openexr, tmp_path / "b.exr")
    for name, plane in planes.items():
        assert found[name].dtype == dtype
        assert np.abs(found[name].astype(np.float64) - plane).max() < (2e-5 if dtype == np.float32 else 1e-2)
    assert np.abs(found["A"].astype(np.float64) - alpha).max() < 1e-3
    assert header["chromaticities"] == pytest.approx(primaries)


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.float64])
def test_a_float_tiff_comes_back_with_its_values(tmp_path, channels, dtype):
    values = np.random.default_rng(1).normal(1, 2, (9, 11, channels)).astype(dtype)
    if channels == 4:
        values[..., 3] = np.clip(values[..., 3], 0, 1)
    extra = {"extrasamples": ["unassalpha"]} if channels == 4 else {}
    photometric = "minisblack" if channels == 1 else "rgb"
    tifffile.imwrite(tmp_path / "a.tif", values.squeeze(), photometric=photometric, **extra)
    image = decode(tmp_path / "a.tif", hdr=True)
    assert image.gray == (channels == 1)
    encode(image, tmp_path / "b.tif")
    back = tifffile.imread(tmp_path / "b.tif")
    assert back.dtype == (np.float16 if dtype == np.float16 else np.float32)
    assert np.abs(back.astype(np.float64) - values.squeeze()).max() < (1e-2 if dtype == np.float16 else 2e-5)


def test_gray_and_compressions(openexr, tmp_path):
    for name in ("NO", "RLE", "ZIPS", "ZIP", "PIZ", "ZSTD"):
        path = tmp_path / f"{name}.exr"
        write_exr(openexr, path, {"Y": LIGHT[..., 0]}, compression=getattr(openexr, f"{name}_COMPRESSION"))
        image = decode(path, hdr=True)
        assert image.gray
        encode(image, tmp_path / "b.exr")
        assert np.abs(read_exr(openexr, tmp_path / "b.exr")[0]["Y"] - LIGHT[..., 0]).max() < 2e-5


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_no_numbers_are_refused(openexr, tmp_path, value):
    light = LIGHT.copy()
    light[3, 4, 1] = value
    write_exr(openexr, tmp_path / "a.exr", {"RGB": light})
    tifffile.imwrite(tmp_path / "a.tif", light, photometric="rgb")
    for name in ("a.exr", "a.tif"):
        with pytest.raises(ImageError, match="1 value is NaN or infinite; replace them first"):
            decode(tmp_path / name, hdr=True)


def test_what_is_not_kept_is_said(openexr, tmp_path):
    planes = dict.fromkeys(("R", "G", "B", "Z", "N.X"), LIGHT[..., 0])
    write_exr(openexr, tmp_path / "a.exr", planes)
    image = decode(tmp_path / "a.exr", hdr=True)
    assert "the channels N.X, Z are dropped" in image.notes
    assert encode(image, tmp_path / "a.png") == ("PNG does not hold linear values beyond 0 to 1",)
    assert encode(image, tmp_path / "a.jpg") == ("JPEG does not hold linear values beyond 0 to 1",)
    shown = decode(tmp_path / "a.png").pixels[..., 0]
    assert np.abs(shown / 65535 - srgb(np.clip(LIGHT[..., 0], 0, 1))).max() < 1e-5
    assert np.array_equal(decode(tmp_path / "a.exr").pixels[..., 0], shown)


def test_a_photograph_becomes_linear_light(openexr, tmp_path):
    """8 bits to EXR and back are the same levels."""
    from PIL import Image

    pixels = pattern()
    Image.fromarray(pixels).save(tmp_path / "a.png")
    encode(decode(tmp_path / "a.png"), tmp_path / "a.exr")
    found, _ = read_exr(openexr, tmp_path / "a.exr")
    assert found["R"].dtype == np.float16
    assert np.abs(srgb(found["R"]) * 255 - pixels[..., 0]).max() < 0.1
    encode(decode(tmp_path / "a.exr").to_8bit(), tmp_path / "b.png")
    assert np.array_equal(np.asarray(Image.open(tmp_path / "b.png")), pixels)


def test_damaged_and_foreign_files_are_named(openexr, tmp_path, capfd):
    write_exr(openexr, tmp_path / "a.exr", {"RGB": LIGHT})
    data = (tmp_path / "a.exr").read_bytes()
    cases = {
        data[:-40]: "truncated",
        data[:60]: "truncated",
        data[:4] + b"\2\x08\0\0" + data[8:]: "a deep OpenEXR image",
        data[:4] + b"\1\0\0\0" + data[8:]: "version 1 of OpenEXR",
    }
    for content, text in cases.items():
        (tmp_path / "b.exr").write_bytes(content)
        with pytest.raises(ImageError, match=text):
            decode(tmp_path / "b.exr")
    write_exr(openexr, tmp_path / "c.exr", {"U": LIGHT[..., 0], "V": LIGHT[..., 0]})
    with pytest.raises(ImageError, match="without the channels R, G and B, or Y; it has U, V"):
        decode(tmp_path / "c.exr")
    assert capfd.readouterr().err == ""


def test_a_lying_size_is_refused_before_the_pixels(openexr, tmp_path):
    import struct

    write_exr(openexr, tmp_path / "a.exr", {"RGB": LIGHT})
    data = (tmp_path / "a.exr").read_bytes()
    window = struct.pack("<4i", 0, 0, 30, 19)
    (tmp_path / "a.exr").write_bytes(data.replace(window, struct.pack("<4i", 0, 0, 99_999, 99_999)))
    with pytest.raises(ImageError, match="100000×100000 is more than the limit"):
        decode(tmp_path / "a.exr")


def test_the_size_of_a_result_keeps_the_range(openexr, tmp_path):
    from gankit.images.resize import resize

    write_exr(openexr, tmp_path / "a.exr", {"RGB": LIGHT})
    image = decode(tmp_path / "a.exr", hdr=True)
    encode(resize(replace(image, notes=()), (62, 40)), tmp_path / "b.exr")
    found, _ = read_exr(openexr, tmp_path / "b.exr")
    assert found["R"].shape == (40, 62)
    assert found["R"].max() > 3
    assert found["R"].min() < -1
