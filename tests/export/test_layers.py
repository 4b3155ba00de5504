"""The table of layers: the halo of any network made of it is what its pixels really see; the rest is one clear line."""

import math

import pytest
import torch
from gankit_export import layers
from gankit_export.calls import LayerError, UnknownLayerError, WholeImageError
from gankit_export.layers import Kind, LayerBehaviour
from gankit_export.receptive_field import halo
from torch import nn
from torch.nn import functional as F

from tests.export.networks_layers import EVERYTHING, LOOSE, OTHERS, STREAMED, C, Function, lively, random_network


def reached(net, rate, reach):
    """Whether output pixels, of each place in a period, change with input pixels beyond ``reach``."""
    period = max(4, round(1 / rate))
    middle = period * (reach // period + 2)
    size = 2 * middle + period
    net = net.double()
    x = torch.randn(1, C, size, size, dtype=torch.float64)
    y = net(x.clone())
    assert y.shape[2] == size * rate
    changed = False
    for pixel in range(middle, middle + period):
        other = torch.randn_like(x)
        kept = slice(max(0, pixel - reach), pixel + reach + 1)
        if reach >= 0:
            other[:, :, kept, kept] = x[:, :, kept, kept]
        rows = slice(math.floor(pixel * rate), max(math.floor(pixel * rate) + 1, math.ceil((pixel + 1) * rate)))
        changed |= bool((net(other)[:, :, rows, rows] - y[:, :, rows, rows]).abs().max() > 1e-12)
    return changed


@pytest.mark.parametrize("name", EVERYTHING)
def test_the_halo_of_one_layer(name):
    rate, make = EVERYTHING[name]
    torch.manual_seed(0)
    net = lively(nn.Sequential(nn.Conv2d(C, C, 1), make()))
    assert not reached(net, rate, halo(net))
    if name not in LOOSE:
        assert reached(net, rate, halo(net) - 1) or (name == "bicubic" and halo(net) == 2)


@pytest.mark.parametrize("seed", range(24))
def test_the_halo_of_random_networks_is_what_a_pixel_sees(seed):
    net, rate = random_network(seed, {**STREAMED, **OTHERS})
    assert not reached(net, rate, halo(net))
    assert reached(net, rate, halo(net) - 1)


@pytest.mark.parametrize("seed", range(8))
def test_no_pixel_sees_beyond_the_halo(seed):
    net, rate = random_network(100 + seed, EVERYTHING, length=6)
    assert not reached(net, rate, halo(net))


def test_both_axes_count():
    assert halo(nn.Conv2d(C, C, (1, 7), padding=(0, 3))) == 3
    assert halo(nn.Conv2d(C, C, (5, 1), padding=(2, 0))) == 2


def whole(body):
    return Function(body)


WHOLE = {
    "InstanceNorm2d": nn.InstanceNorm2d(C),
    "GroupNorm": nn.GroupNorm(2, C),
    "BatchNorm2d": nn.BatchNorm2d(C, track_running_stats=False),
    "AdaptiveAvgPool2d": nn.AdaptiveAvgPool2d(1),
    "LayerNorm": nn.LayerNorm(16),
    "Softmax": nn.Softmax(dim=-1),
    "CircularPad2d": nn.CircularPad2d(1),
    "Conv2d": nn.Conv2d(C, C, 3, padding=1, padding_mode="circular"),
    "Upsample": nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True),
    "mean": Function(lambda net, x: x - x.mean((2, 3), keepdim=True)),
    "interpolate": Function(lambda net, x: F.interpolate(x, size=(64, 64))),
    "pad": Function(lambda net, x: F.pad(x, (1, 1, 1, 1), mode="circular")),
    "mul": Function(lambda net, x: x * x.shape[2]),
    "add": Function(lambda net, x: x + torch.ones(1, 1, 16, 16)),
}


@pytest.mark.parametrize("name", WHOLE)
def test_layers_that_see_the_whole_image_are_named(name):
    with pytest.raises(
        WholeImageError, match=rf"^(layer '1' \({name}\)|{name}\(\) in .*) depends on the whole image.*"
    ):
        halo(nn.Sequential(nn.Conv2d(C, C, 1), WHOLE[name]))


UNKNOWN = {
    "Flatten": nn.Flatten(),
    "Fold": nn.Fold((4, 4), 2),
    "Linear": nn.Linear(16, 16),
    "view": Function(lambda net, x: x.view(1, -1)),
    "permute": Function(lambda net, x: x.permute(0, 2, 3, 1)),
    "stack": Function(lambda net, x: torch.stack([x, x])),
    "cat": Function(lambda net, x: torch.cat([x, x], dim=2)),
    "grid_sample": Function(lambda net, x: F.grid_sample(x, x)),
    "getitem": Function(lambda net, x: x[:, :, -3:]),
    "fft_rfft2": Function(lambda net, x: torch.fft.rfft2(x)),
}


@pytest.mark.parametrize("name", UNKNOWN)
def test_unknown_layers_are_one_line_with_the_way_out(name):
    with pytest.raises(UnknownLayerError) as caught:
        halo(nn.Sequential(nn.Conv2d(C, C, 1), UNKNOWN[name]))
    line = str(caught.value)
    assert "\n" not in line
    assert line.startswith((f"layer '1' ({name}) ", f"{name}() in layer '1' (Function) "))
    assert line.endswith("state tileable=False, or add a row to gankit_export/layers.py")
    assert isinstance(caught.value, LayerError)


def test_a_layer_that_sees_the_whole_image_settles_it_whatever_else_is_unknown():
    class SqueezeExcite(nn.Module):
        def __init__(self):
            super().__init__()
            self.dense = nn.Linear(C, C)

        def forward(self, x):
            return x * torch.sigmoid(self.dense(x.mean((2, 3)))).view(x.shape[0], C, 1, 1)

    with pytest.raises(WholeImageError, match="mean"):
        halo(SqueezeExcite())


def test_weights_computed_from_the_image_are_reported():
    with pytest.raises(UnknownLayerError, match="a weight that is computed from the image"):
        halo(Function(lambda net, x: F.conv2d(x, x)))


@pytest.mark.parametrize(
    "body",
    [
        lambda net, x: F.avg_pool2d(x, x.shape[2]),
        lambda net, x: F.conv2d(x, net.one.weight, None, x.shape[2]),
        lambda net, x: F.pad(x, (x.shape[2], 0, 0, 0)),
        lambda net, x: F.pad(x, x.shape),
        lambda net, x: F.pixel_shuffle(x, x.shape[2]),
        lambda net, x: x[:, :, x.shape[2] // 2 :],
        lambda net, x: x[torch.tensor([0])],
        lambda net, x: x[..., None],
        lambda net, x: x[0],
    ],
)
def test_settings_computed_from_the_image_are_reported(body):
    with pytest.raises(UnknownLayerError, match=r"^\w+\(\) in the network .*state tileable=False") as caught:
        halo(Function(body))
    assert "\n" not in str(caught.value)


def test_an_ellipsis_and_channels():
    assert halo(Function(lambda net, x: net.one(F.pad(x, (1, 1, 1, 1)))[..., 1:-1, 1:-1])) == 1
    assert halo(Function(lambda net, x: x[:, 1:3] + x[:, :2])) == 0


def test_images_of_two_sizes_are_reported():
    with pytest.raises(UnknownLayerError, match="joins images of different sizes"):
        halo(Function(lambda net, x: x + F.avg_pool2d(x, 2)))


def test_networks_without_one_image_are_reported():
    with pytest.raises(UnknownLayerError, match="must return one image"):
        halo(Function(lambda net, x: (x, x)))
    with pytest.raises(ValueError, match="Function cannot be traced: "):
        halo(Function(lambda net, x: x if x.sum() > 0 else -x))


def test_norms_on_fixed_statistics_see_one_pixel():
    assert halo(nn.Sequential(nn.BatchNorm2d(C), nn.InstanceNorm2d(C, track_running_stats=True))) == 0


class Blur(nn.Module):
    """What tracing cannot look into: it leaves torch."""

    def forward(self, x):
        rows = torch.from_numpy(x.detach().numpy().copy())
        return (F.pad(rows, (0, 0, 1, 0))[:, :, :-1] + F.pad(rows, (0, 0, 0, 3))[:, :, 3:]) / 2


def test_a_new_layer_is_one_row(monkeypatch):
    net = nn.Sequential(nn.Conv2d(C, C, 3, padding=1), Blur()).eval()
    with pytest.raises(ValueError, match="cannot be traced"):
        halo(net)

    def window(call, axis):
        return layers.Window(low=-1, high=3) if axis == 0 else layers.Window()

    row = LayerBehaviour(Kind.WINDOWED, modules=(Blur,), window=window)
    monkeypatch.setattr(layers, "LAYERS", (row, *layers.LAYERS))
    assert halo(net) == 4
    assert not reached(net, 1, 4)
    assert reached(net, 1, 3)
