"""Multiply-accumulates as counted by hand and as published."""

import pytest
import torch
from torch import nn

from gankit import models
from gankit.models.cost import cost


def of(name, size, **options):
    with torch.device("meta"):
        return cost(models.build(name, options), size)


@pytest.mark.parametrize(
    ("name", "options", "giga"),
    [
        ("cyclegan", {}, 49.55),
        ("cyclegan", {"blocks": 6}, 35.06),
        ("pix2pix", {}, 6.05),
        ("animegan", {}, 26.3),
    ],
)
def test_translation_networks_at_256_pixels(name, options, giga):
    assert of(name, 256, **options).macs / 1e9 == pytest.approx(giga, rel=2e-3)


def test_four_times_the_pixels_cost_four_times():
    assert of("animegan", 512).macs == 4 * of("animegan", 256).macs


def test_srgan_by_hand():
    body = 33 * 9 * 64 * 64  # 16 blocks of two, and one behind them
    ends = 81 * 3 * 64 + 16 * 81 * 64 * 3  # the last at 16 times the pixels
    up = 9 * 64 * 256 * (1 + 4)
    result = of("srgan", 24)
    assert result.macs == 24 * 24 * (body + ends + up)
    assert result.parameters == 1_547_350


def test_each_kind_of_layer():
    net = nn.Sequential(nn.ConvTranspose2d(3, 5, 4, 2, 1), nn.Conv2d(5, 10, 3, padding=1, groups=5), nn.Flatten())
    assert cost(net, 8).macs == 64 * 16 * 3 * 5 + 256 * 9 * 10
    dense = nn.Sequential(nn.Linear(7, 11), nn.BatchNorm1d(11), nn.Linear(11, 2, bias=False))
    assert cost(dense, (7,)).macs == 7 * 11 + 11 * 2
    assert cost(dense, (7,)).parameters == 7 * 11 + 11 + 22 + 22


def test_nothing_is_changed():
    net = models.build("cyclegan", {"channels": 4, "blocks": 1, "norm": "batch", "norm_at_test": "eval"})
    before = {name: value.clone() for name, value in net.state_dict().items()}
    cost(net, 64)
    assert net.training
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
