"""Results stay near the pixels that they are made of: flat areas stay flat, in every engine."""

import itertools

import numpy as np
import onnxruntime
import pytest
import torch
from torch.nn import functional as F

import gankit
from gankit import models
from gankit.checkpoints import open_model
from gankit.models.overshoot import Overshoot
from gankit.weights import TRAINED

EDSR = [name for name, line in TRAINED.items() if line.task == "upscale" and name.startswith("edsr")]
CORNERS = tuple(itertools.product((0, 255), repeat=3))
COLOURS = (*CORNERS, (200, 160, 130), (90, 140, 220), (128, 128, 128), (240, 20, 20), (1, 254, 3))


def bounds(image, overshoot):
    """The lowest and highest values that are allowed, pixel by pixel."""
    _, height, width = image.shape
    low, high = np.empty_like(image), np.empty_like(image)
    for row, column in np.ndindex(height, width):
        around = image[:, max(0, row - 1) : row + 2, max(0, column - 1) : column + 2]
        least, most = around.min((1, 2)), around.max((1, 2))
        low[:, row, column] = least - overshoot * (most - least)
        high[:, row, column] = most + overshoot * (most - least)
    return low, high


@pytest.mark.parametrize("overshoot", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("scale", [1, 2, 3])
def test_results_are_held_between_the_bounds(scale, overshoot):
    torch.manual_seed(0)
    x, result = torch.rand(2, 3, 5, 7), 3 * torch.randn(2, 3, 5 * scale, 7 * scale)
    made = Overshoot(scale, overshoot)(x, result)
    for image, before, after in zip(x.numpy(), result.numpy(), made.numpy(), strict=True):
        low, high = (each.repeat(scale, 1).repeat(scale, 2) for each in bounds(image, overshoot))
        np.testing.assert_allclose(after, np.clip(before, low, high), rtol=0, atol=1e-6)


@pytest.mark.parametrize("size", [(1, 1), (1, 6), (3, 3), (17, 12)])
@pytest.mark.parametrize("name", ["edsr", "srgan"])
def test_any_network_leaves_flat_images_flat(name, size):
    torch.manual_seed(0)
    net = models.build(name, {"channels": 8, "blocks": 1, "overshoot": 1}).eval()
    x = torch.rand(4, 3, 1, 1).expand(4, 3, *size).contiguous()
    with torch.no_grad():
        assert torch.equal(net(x), F.interpolate(x, scale_factor=4.0))


@pytest.mark.parametrize("name", ["edsr", "srgan"])
def test_without_the_option_nothing_changes(name):
    """Weights of others have no bound, and their files and facts do not name one."""
    assert "overshoot" not in models.facts(name).options
    assert models.build(name, {"channels": 8, "blocks": 1}).limit is None


@pytest.mark.parametrize("name", EDSR)
def test_the_weights_that_ship_hold_their_results(name):
    assert open_model(name).facts.options["overshoot"] == 1.0


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["eager", "winograd", "onnxruntime", "openvino"])
@pytest.mark.parametrize("name", ["edsr-photo", "edsr-photo-x2"])
def test_colours_stay_to_the_last_pixel(name, backend):
    """Zero padding looks like a black frame to a network: pure colours were off by 15 levels at the border."""
    with gankit.Upscaler(name, backend=backend, precision="fp32") as upscaler:
        scale = upscaler.facts.scale
        for colour in COLOURS:
            image = np.broadcast_to(np.uint8(colour), (24, 37, 3)).copy()
            wanted = np.broadcast_to(np.uint8(colour), (24 * scale, 37 * scale, 3))
            np.testing.assert_array_equal(np.asarray(upscaler(image)), wanted)


@pytest.mark.slow
@pytest.mark.parametrize("name", EDSR)
def test_colours_stay_in_the_exported_file(name, tmp_path):
    file = tmp_path / "net.onnx"
    gankit.export(name, file)
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    (given,) = session.get_inputs()
    for colour in CORNERS:
        x = np.broadcast_to(np.float32(colour)[None, :, None, None] / 255, (1, 3, 20, 24))
        (result,) = session.run(None, {given.name: np.ascontiguousarray(x)})
        assert np.abs(result - x[:, :, :1, :1]).max() < 1e-6


@pytest.mark.slow
def test_a_file_without_the_bound_is_off_at_the_border():
    """The test images do find the fault."""
    loaded = open_model("edsr-photo")
    bare = models.build("edsr", {**loaded.facts.options, "overshoot": None}).eval()
    bare.load_state_dict(loaded.generator.state_dict())
    x = torch.tensor([1.0, 0.0, 0.0])[None, :, None, None].expand(1, 3, 24, 24)
    with torch.no_grad():
        assert (bare(x).clamp(0, 1) - F.interpolate(x, scale_factor=4.0)).abs().max() > 10 / 255
