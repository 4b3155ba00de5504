"""PNG where neither imagecodecs nor ISA-L is installed: the same pixels through Pillow, the same files through zlib."""

import sys

import numpy as np
import pytest
from PIL import Image

from gankit.errors import ImageError
from gankit.images import decode, encode, from_array
from gankit.images.formats import png


@pytest.fixture
def pillow_alone(monkeypatch):
    monkeypatch.setitem(sys.modules, "imagecodecs", None)
    monkeypatch.setitem(sys.modules, "isal", None)


def kinds(folder):
    """One file of each kind that Pillow reads."""
    rng = np.random.default_rng(0)
    rgb = Image.fromarray(rng.integers(0, 256, (9, 11, 3), np.uint8))
    gray = rgb.convert("L")
    made = {
        "rgb": rgb,
        "gray": gray,
        "bits": gray.convert("1"),
        "palette": rgb.quantize(7),
        "rgba": Image.fromarray(rng.integers(0, 256, (9, 11, 4), np.uint8)),
        "gray_alpha": Image.fromarray(rng.integers(0, 256, (9, 11, 2), np.uint8), "LA"),
        "gray16": Image.fromarray(rng.integers(0, 2**16, (9, 11), np.uint16)),
    }
    for name, image in made.items():
        image.save(folder / f"{name}.png")
    rgb.save(folder / "transparent.png", transparency=rgb.getpixel((3, 4)))
    rgb.quantize(7).save(folder / "clear_palette.png", transparency=2)
    return sorted(folder.glob("*.png"))


def test_pixels_are_those_of_imagecodecs(tmp_path, monkeypatch):
    files = kinds(tmp_path)
    assert len(files) == 9
    wanted = [png.decode_pixels(path.read_bytes()) for path in files]
    monkeypatch.setitem(sys.modules, "imagecodecs", None)
    for path, pixels in zip(files, wanted, strict=True):
        found = png.decode_pixels(path.read_bytes())
        assert found.dtype == pixels.dtype, path.name
        assert np.array_equal(found, pixels), path.name


def test_16_bit_in_colour_says_what_to_install(tmp_path, request):
    pixels = np.random.default_rng(0).integers(0, 2**16, (5, 6, 3), np.uint16)
    encode(from_array(pixels), tmp_path / "deep.png")
    request.getfixturevalue("pillow_alone")
    with pytest.raises(ImageError, match="pip install imagecodecs"):
        decode(tmp_path / "deep.png")


@pytest.mark.usefixtures("pillow_alone")
def test_files_are_written_by_zlib(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (70, 33, 3), np.uint8)
    encode(from_array(pixels), tmp_path / "a.png")
    assert np.array_equal(np.asarray(Image.open(tmp_path / "a.png")), pixels)
    assert np.array_equal(decode(tmp_path / "a.png").pixels, pixels)
