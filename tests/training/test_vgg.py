"""The perceptual loss against a VGG19 written out."""

import math

import pytest
import torch
from torch.nn import functional as F
from training_making import stream, system

from gankit.errors import CheckpointError
from gankit.training.vgg import PerceptualLoss

# torchvision's numbers of the convolutions in vgg19.features, their widths, and the pools between them.
CONVOLUTIONS = {0: 64, 2: 64, 5: 128, 7: 128, 10: 256, 12: 256, 14: 256, 16: 256}
CONVOLUTIONS |= dict.fromkeys((19, 21, 23, 25, 28, 30, 32, 34), 512)
POOLS = (4, 9, 18, 27)


@pytest.fixture(scope="module")
def state():
    torch.manual_seed(0)
    result, width = {}, 3
    for number, wide in CONVOLUTIONS.items():
        spread = math.sqrt(2 / (9 * width))
        result[f"features.{number}.weight"] = (torch.randn(wide, width, 3, 3) * spread).half()
        result[f"features.{number}.bias"] = (torch.randn(wide) * 0.1).half()
        width = wide
    result["classifier.0.weight"] = torch.zeros(2, 2)
    return result


@pytest.fixture(scope="module")
def loss(state, tmp_path_factory):
    path = tmp_path_factory.mktemp("vgg") / "vgg19.pth"
    torch.save(state, path)
    made = PerceptualLoss(path)
    path.unlink()
    return made


def features(state, x):
    x = (x - torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)) / torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
    for number in range(35):
        if number in CONVOLUTIONS:
            weight, bias = (state[f"features.{number}.{name}"].float() for name in ("weight", "bias"))
            x = F.conv2d(x, weight, bias, padding=1)
        elif number in POOLS:
            x = F.max_pool2d(x, 2)
        else:
            x = F.relu(x)
    return x


def test_is_a_vgg19(loss, state):
    torch.manual_seed(1)
    x, y = torch.rand(2, 3, 32, 32), torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        assert loss(x, x).item() == 0
        wanted = (features(state, x) - features(state, y)).abs().mean()
        assert wanted > 0.01
        torch.testing.assert_close(loss(x, y), wanted, rtol=1e-4, atol=1e-6)


def test_gradient_goes_to_the_result_alone(loss):
    x, y = torch.rand(1, 3, 16, 16, requires_grad=True), torch.rand(1, 3, 16, 16, requires_grad=True)
    loss(x, y).backward()
    assert x.grad.abs().sum() > 0
    assert y.grad is None
    assert not any(parameter.requires_grad for parameter in loss.parameters())


def test_files_that_are_no_vgg19(state, tmp_path):
    missing, bare, other, empty, text = (
        tmp_path / name for name in ("missing.pth", "a.pth", "b.pth", "c.pth", "d.pth")
    )
    torch.save({"features.0.weight": torch.zeros(64, 3, 3, 3)}, other)
    torch.save({**state, "features.34.weight": torch.zeros(512, 512, 1, 1), **{}}, bare)
    torch.save([torch.zeros(2)], empty)
    text.write_text("not weights at all")
    for path, what in (
        (missing, "no such file"),
        (other, "does not hold VGG19: '0.bias' is missing"),
        (bare, "does not hold VGG19: '34.weight'"),
        (empty, "not a state dict"),
        (text, "not a weights file"),
    ):
        with pytest.raises(CheckpointError, match=what) as error:
            PerceptualLoss(path)
        assert str(path) in str(error.value)
        assert "\n" not in str(error.value)


def test_a_training_step_with_vgg19(state, tmp_path):
    """Its features are the perceptual term, the generator learns from them, and no checkpoint carries them."""
    path = tmp_path / "vgg19.pth"
    torch.save(state, path)
    terms = {"content_weight": 0.0, "consistency_weight": 0.0, "adversarial_weight": 0.0, "perceptual_weight": 1.0}
    made = system("srgan", 20, head_start=0, vgg_weights=path, **terms)
    low, high = next(stream(batch=1)(0))
    with torch.no_grad():
        wanted = made._perceptual(made.generator.train(False)(low / 255), high / 255)
    made.generator.train()
    reported = made.step((low, high), 0)
    assert reported["perceptual"].item() == pytest.approx(wanted.item(), rel=1e-3)
    assert made.generator.tail.bias.grad.abs().sum() > 0
    assert set(made.modules) == {"generator", "discriminator"}
