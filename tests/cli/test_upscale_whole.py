"""From weights file to images with nothing replaced, and a small net."""

import numpy as np
import pytest
import torch
from PIL import Image

from gankit import checkpoints, cli
from gankit.images import decode
from tests.networks import save_visible_srgan


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """An SRGAN of one block that makes visible images: the last layer's bias is a medium gray."""
    return save_visible_srgan(tmp_path_factory.mktemp("weights") / "small.safetensors")


def noise(*shape, dtype=np.uint8):
    return np.random.default_rng(0).integers(0, np.iinfo(dtype).max, shape, dtype=dtype, endpoint=True)


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "in"
    root.mkdir()
    Image.fromarray(noise(70, 61, 3)).save(root / "colour.png")
    Image.fromarray(noise(40, 30, dtype=np.uint8)).save(root / "gray.png")
    Image.fromarray(noise(40, 30, dtype=np.uint16)).save(root / "gray16.png")
    Image.fromarray(noise(40, 30, 4)).save(root / "alpha.png")
    Image.fromarray(noise(20, 30, 3)).quantize(16).save(root / "palette.png")
    exif = Image.Exif()
    exif[274] = 6  # a phone held upright: turn by a quarter
    Image.fromarray(noise(24, 48, 3)).save(root / "turned.jpg", exif=exif)
    return root


def upscale(folder, output, weights, *options, backend="eager"):
    options = ["--model", weights, "--backend", backend, "--precision", "fp32", *options]
    return cli.main(["upscale", str(folder), "-o", str(output), *map(str, options)])


def test_every_kind_of_image(folder, tmp_path, weights, capsys):
    out = tmp_path / "out"
    assert upscale(folder, out, weights) == 0
    assert "eager fp32" in capsys.readouterr().out
    colour, gray, deep, alpha, turned = (
        decode(out / name) for name in ("colour.png", "gray.png", "gray16.png", "alpha.png", "turned.jpg")
    )
    assert colour.pixels.shape == (280, 244, 3)
    assert colour.pixels.std() > 1
    assert gray.gray
    assert gray.pixels.dtype == np.uint8
    assert deep.gray
    assert deep.pixels.dtype == np.uint16
    assert len(np.unique(deep.pixels)) > 256
    assert alpha.alpha is not None
    assert alpha.alpha.shape == (160, 120)
    assert turned.pixels.shape == (192, 96, 3)  # upright


def test_the_pixels_are_those_of_the_net(folder, tmp_path, weights):
    assert upscale(folder / "colour.png", tmp_path / "out", weights) == 0
    net = checkpoints.load(weights)
    source = torch.from_numpy(decode(folder / "colour.png").pixels).permute(2, 0, 1)[None] / 255
    expected = (net(source).clamp(0, 1) * 255).round()[0].permute(1, 2, 0)
    result = torch.from_numpy(decode(tmp_path / "out" / "colour.png").pixels).float()
    assert (result - expected).abs().max() <= 1


@pytest.mark.slow
def test_tiled_is_untiled(folder, tmp_path, weights):
    """In ONNX Runtime, which takes tiles; the eager backend streams whole images on a CPU."""
    pytest.importorskip("onnxruntime")
    for name, options in (("whole", []), ("tiled", ["--tile", 40, "--batch", 3])):
        options = ["--format", "png", *options]
        assert upscale(folder, tmp_path / name, weights, *options, backend="onnxruntime") == 0
    for whole in (tmp_path / "whole").glob("*.png"):
        one, other = decode(whole), decode(tmp_path / "tiled" / whole.name)
        top = np.iinfo(one.pixels.dtype).max
        # One level of 8 bits, for a value that lies at the middle of two.
        assert np.abs(one.pixels.astype(int) - other.pixels).max() <= max(1, top // 10000), whole.name
