"""AOTInductor packages that take and give uint8 pixels: equal to the model, whose values are rounded outside."""

import json

import numpy as np
import pytest
import torch

from gankit.backends.pixels import enter_pixels, leave_pixels
from gankit.models.facts import Facts
from tests.export.formats import EXACT, exported, refusal, result, small_image, small_weights
from tests.latent_networks import weights as latent_weights

FACTS = Facts(task="upscale", value_range=(0, 255))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.uint16, torch.float32])
def test_pixels_pass_through(dtype):
    levels = torch.randint(0, 256, (2, 3, 5, 4), dtype=torch.uint8)
    batch = {torch.uint8: levels, torch.uint16: (levels.int() * 257).to(torch.uint16), torch.float32: levels / 255}[
        dtype
    ]
    (pixels,) = enter_pixels((batch,), FACTS)
    assert pixels.dtype == torch.uint8
    assert pixels.is_contiguous()
    assert torch.equal(pixels.permute(0, 3, 1, 2), levels)
    back = leave_pixels(pixels, (batch,), FACTS)
    assert back.dtype == dtype
    torch.testing.assert_close(back.float(), batch.float(), rtol=0, atol=1e-6)


def test_values_between_two_levels_are_rounded_and_those_outside_clamped():
    given = torch.tensor([-0.2, 99.6 / 255, 1.3]).reshape(1, 1, 1, 3).repeat(1, 3, 1, 1)
    (pixels,) = enter_pixels((given,), FACTS)
    assert pixels[0, 0, :, 0].tolist() == [0, 100, 255]


@pytest.mark.slow
@pytest.mark.parametrize("shapes", [(), ("--shapes", "2x64x64")])
def test_a_package_of_pixels_upscales(tmp_path, shapes, capsys):
    weights = small_weights(tmp_path)
    package = exported(weights, tmp_path / "m.pt2", "--format", "aoti", "--io", "uint8", *shapes)
    content = json.loads((tmp_path / "m.pt2.json").read_text())
    assert content["input"] == {"name": "input", "dtype": "uint8", "layout": "NHWC"}
    sides = ["batch", "height", "width"] if not shapes else [2, 64, 64]
    assert content["dims"]["input"] == [*sides, 3]
    assert content["dims"]["output"] == (["batch", "2*height", "2*width", 3] if not shapes else [2, 128, 128, 3])
    image = small_image(tmp_path, (80, 100))
    wanted = result("upscale", weights, tmp_path / "w", image, *EXACT)
    found = result("upscale", package, tmp_path / "f", image)
    assert found.shape == wanted.shape
    assert np.abs(found - wanted).max() <= 1
    assert (found != wanted).mean() < 0.01


@pytest.mark.slow
def test_a_package_of_pixels_generates(tmp_path):
    weights = latent_weights(tmp_path, "cgan")
    package = exported(weights, tmp_path / "c.pt2", "--format", "aoti", "--io", "uint8")
    wanted = result("generate", weights, tmp_path / "w", "-n", 1, "--class", 3)
    assert np.abs(result("generate", package, tmp_path / "f", "-n", 1, "--class", 3) - wanted).max() <= 1


def test_ncnn_names_the_formats_that_take_pixels(tmp_path, capsys):
    weights = small_weights(tmp_path)
    line = refusal(capsys, "export", "--model", weights, "--format", "ncnn", "--io", "uint8")
    assert "an ncnn model takes and gives float32 only" in line
    assert "use --format onnx, tensorrt, openvino, aoti or tritonserver" in line
