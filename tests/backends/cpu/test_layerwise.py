"""Layerwise runs give the image of the whole at once, for every layer and network, in memory and in files."""

import math

import numpy as np
import pytest
import torch
from gankit_export.rewrites import for_inference
from torch import nn

from gankit.backends.cpu.layerwise import Layerwise, Statistics
from gankit.models import build


def lively(net, seed=0):
    """Random weights that make every layer count."""
    torch.manual_seed(seed)
    for module in net.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.normal_(module.weight, 0, 1.4 / math.sqrt(module.weight[0].numel()))
        if isinstance(module, nn.InstanceNorm2d | nn.GroupNorm | nn.BatchNorm2d) and module.weight is not None:
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.3, 0.3)
    return net.eval().requires_grad_(False)


def in_strips(net, x, max_bytes=1 << 30, strip_bytes=1):
    rows = []
    with torch.inference_mode():
        Layerwise(for_inference(net), max_bytes, strip_bytes).run(x, lambda part, row: rows.append((row, part.clone())))
    assert [row for row, _ in rows] == list(np.cumsum([0, *(part.shape[2] for _, part in rows)]))[:-1]
    assert len(rows) > 1
    return torch.cat([part for _, part in rows], dim=2)


def decibels(result, wanted):
    return 10 * math.log10(4 / max(float((result.double() - wanted.double()).square().mean()), 1e-30))


@pytest.mark.parametrize(
    ("model", "options", "size"),
    [
        ("cyclegan", {"channels": 8, "blocks": 2}, (44, 36)),
        ("cyclegan", {"channels": 8, "blocks": 1, "norm": "batch", "dropout": 0.5}, (20, 36)),
        ("cyclegan", {"channels": 8, "blocks": 1, "antialias": True, "antialias_up": True}, (40, 36)),
        ("pix2pix", {}, None),
        ("animegan", {"channels": 8, "blocks": 1}, (32, 40)),
        ("animegan", {"channels": 8, "blocks": 1, "align_corners": False}, (32, 40)),
        ("cartoongan", {}, (24, 28)),
        ("edsr", {"channels": 8, "blocks": 2, "scale": 3, "mean": [0.4, 0.5, 0.6]}, (40, 28)),
        ("edsr", {"channels": 8, "blocks": 2, "tail": "edsr", "mean": [0.4, 0.5, 0.6], "res_scale": 0.5}, (40, 28)),
    ],
)
@pytest.mark.parametrize("max_bytes", [1 << 30, 0])
def test_networks(model, options, size, max_bytes):
    from gankit import models

    if model == "pix2pix":
        options = {"channels": 8, "downs": 5}
    net = lively(build(model, options))
    facts = models.facts(model, options)
    size = size or (2 * facts.multiple, 3 * facts.multiple)
    x = torch.rand(1, 3, *size) * 2 - 1
    with torch.inference_mode():
        wanted = net(x)
    assert wanted.std() > 0.05  # else it proves nothing
    assert decibels(in_strips(net, x, max_bytes), wanted) > 100


@pytest.mark.parametrize(
    "net",
    [
        nn.Sequential(nn.Conv2d(3, 5, 3, stride=2, padding=1, dilation=2), nn.InstanceNorm2d(5, affine=True)),
        nn.Sequential(nn.ConvTranspose2d(3, 4, 4, stride=2, padding=1), nn.GroupNorm(2, 4)),
        nn.Sequential(nn.ConvTranspose2d(3, 4, 3, stride=2, padding=1, output_padding=1), nn.ReLU(inplace=True)),
        nn.Sequential(nn.ConvTranspose2d(3, 4, 2, stride=2), nn.InstanceNorm2d(4)),
        nn.Sequential(nn.ReflectionPad2d((1, 2, 3, 4)), nn.Conv2d(3, 4, 3)),
        nn.Sequential(nn.ReplicationPad2d(2), nn.Conv2d(3, 4, 5)),
        nn.Sequential(nn.ZeroPad2d((0, 1, 2, 3)), nn.Conv2d(3, 4, 3), nn.LeakyReLU(0.2, inplace=True)),
        nn.Sequential(nn.Conv2d(3, 8, 1), nn.PixelShuffle(2), nn.InstanceNorm2d(2)),
        nn.Sequential(nn.Upsample(scale_factor=3, mode="nearest"), nn.Conv2d(3, 2, 3, padding=1, groups=1)),
        nn.Sequential(nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True), nn.Conv2d(3, 2, 3)),
        nn.Sequential(nn.Upsample(scale_factor=2, mode="bilinear"), nn.Tanh()),
        nn.Sequential(nn.AvgPool2d(2), nn.InstanceNorm2d(3)),  # no operation of its own: whole
        nn.Sequential(nn.InstanceNorm2d(3), nn.InstanceNorm2d(3)),
    ],
    ids=lambda net: "-".join(type(item).__name__ for item in net),
)
def test_layers(net):
    lively(net)
    x = torch.rand(1, 3, 38, 22) * 3 + 5
    with torch.inference_mode():
        wanted = net(x)
    torch.testing.assert_close(in_strips(net, x), wanted, rtol=0, atol=2e-5)


def test_statistics_of_a_large_mean():
    """Far from zero, where a sum of squares would lose everything."""
    x = (
        torch.randn(1, 3, 200, 30, dtype=torch.float64) * 1e-2
        + torch.tensor([0.0, 1e3, -1e4]).view(1, 3, 1, 1).double()
    )
    x = x.float()
    found = Statistics.none(3)
    for start in range(0, 200, 7):
        found.add(x[:, :, start : start + 7])
    mean, variance = found.grouped(3)
    wanted = torch.var_mean(x.double(), dim=(0, 2, 3), correction=0)
    torch.testing.assert_close(mean.double(), wanted[1], rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(variance.double(), wanted[0], rtol=2e-3, atol=0)
    grouped = found.grouped(1)[1]
    torch.testing.assert_close(grouped.double(), x.double().var(correction=0).expand(3), rtol=1e-5, atol=0)


def test_layers_that_nobody_reads_any_more_are_forgotten():
    """So that the memory is that of a few layers, not of all."""
    from gankit.backends.cpu import layerwise

    held = []

    class Watched(layerwise._Run):
        def _space(self, node):
            result = super()._space(node)
            held.append(self._held)
            return result

    net = lively(nn.Sequential(*(nn.Sequential(nn.Conv2d(3, 3, 3, padding=1), nn.InstanceNorm2d(3)) for _ in range(9))))
    x = torch.rand(1, 3, 16, 16)
    original, layerwise._Run = layerwise._Run, Watched
    try:
        in_strips(net, x)
    finally:
        layerwise._Run = original
    assert len(held) == 9
    assert max(held) == 2 * x.nbytes


@pytest.mark.slow
def test_the_published_cyclegan_on_a_real_image():
    from gankit.backends.choice.probe import real_tile

    net = lively(build("cyclegan"))
    x = real_tile(3, 4) * 2 - 1
    with torch.inference_mode():
        wanted = net(x)
    result = in_strips(net, x, strip_bytes=1 << 20)
    assert wanted.std() > 0.1
    assert decibels(result, wanted) > 100
