"""LPIPS with a stand-in for torchvision: AlexNet's layers with random weights."""

import importlib.machinery
import sys
import types
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest
import torch
import torchmetrics.functional.image.lpips as functional
import torchmetrics.image.lpip as modular
from torch import nn

from gankit.errors import BackendError, UsageError
from gankit.evaluation.perceptual import Lpips


def alexnet_features() -> nn.Sequential:
    torch.manual_seed(0)
    conv, relu = nn.Conv2d, nn.ReLU
    layers = [conv(3, 64, 11, 4, 2), relu(), nn.MaxPool2d(3, 2), conv(64, 192, 5, padding=2), relu()]
    layers += [nn.MaxPool2d(3, 2), conv(192, 384, 3, padding=1), relu(), conv(384, 256, 3, padding=1), relu()]
    return nn.Sequential(*layers, conv(256, 256, 3, padding=1), relu(), nn.MaxPool2d(3, 2))


@pytest.fixture
def torchvision(monkeypatch):
    models = types.ModuleType("torchvision.models")
    models.AlexNet_Weights = types.SimpleNamespace(DEFAULT=None)
    models.alexnet = lambda weights: types.SimpleNamespace(features=alexnet_features())
    package = types.ModuleType("torchvision")
    package.models = models
    package.__spec__ = importlib.machinery.ModuleSpec("torchvision", None)
    monkeypatch.setitem(sys.modules, "torchvision", package)
    monkeypatch.setitem(sys.modules, "torchvision.models", models)
    for module in (functional, modular):
        monkeypatch.setattr(module, "_TORCHVISION_AVAILABLE", True)
    return models


@pytest.fixture
def pair():
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (64, 72, 3), np.uint8), rng.integers(0, 256, (64, 72, 3), np.uint8)


def test_the_formula(torchvision, pair):
    """Features of unit length at each place, squared differences, weighted by the published heads."""
    published = Path(functional.__file__).parent / "lpips_models" / "alex.pth"
    heads = torch.load(published, map_location="cpu", weights_only=True)
    shift, scale = torch.tensor([-0.030, -0.088, -0.188]), torch.tensor([0.458, 0.448, 0.450])
    values = [torch.from_numpy(image).float() / 127.5 - 1 for image in pair]
    values = [((value - shift) / scale).permute(2, 0, 1)[None] for value in values]
    wanted, found = 0.0, 0
    with torch.no_grad():
        for layer in alexnet_features()[:12]:
            values = [layer(value) for value in values]
            if isinstance(layer, nn.ReLU):
                unit = [value / value.square().sum(1, keepdim=True).sqrt().clamp(min=1e-4) for value in values]
                weights = heads[f"lin{found}.model.1.weight"]
                wanted += float(((unit[0] - unit[1]).square() * weights).sum(1).mean())
                found += 1
    assert found == 5
    assert Lpips("alex")(*pair) == pytest.approx(wanted, rel=1e-3)


def test_equal_images_and_again(torchvision, pair):
    distance = Lpips("alex")
    first = distance(*pair)
    assert first > 0
    assert distance(pair[0], pair[0]) == pytest.approx(0, abs=1e-6)
    assert distance(*pair) == first, "nothing of the images before"


def test_small_images_are_refused(torchvision):
    small = np.zeros((63, 90, 3), np.uint8)
    with pytest.raises(UsageError, match="64×64 pixels or more, not 90×63"):
        Lpips("alex")(small, small)


def test_without_torchvision_one_line_says_so(monkeypatch):
    for module in (functional, modular):
        monkeypatch.setattr(module, "_TORCHVISION_AVAILABLE", False)
    with pytest.raises(BackendError, match=r"LPIPS needs .*torchvision .*pip install 'gankit\[perceptual\]'") as caught:
        Lpips()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (RuntimeError("operator torchvision::nms does not exist\nmore"), "installed but broken .operator torchvision"),
        (URLError("no route to host"), "cannot download the weights of alex .no route to host"),
    ],
)
def test_a_broken_torchvision_is_one_line(torchvision, error, message):
    def fail(weights):
        raise error

    torchvision.alexnet = fail
    with pytest.raises(BackendError, match=message) as caught:
        Lpips()
    assert "\n" not in str(caught.value)
