"""Streaming and layerwise runs of any network made of the table's layers give the whole image."""

import ast
from pathlib import Path

import pytest
import torch
from gankit_export import layers
from gankit_export.calls import UnknownLayerError
from gankit_export.layers import Kind, LayerBehaviour
from gankit_export.receptive_field import halo
from gankit_export.rewrites import for_inference, trace
from torch import nn
from torch.nn import functional as F

from gankit.backends.cpu.layerwise import Layerwise
from gankit.backends.cpu.streaming import NotStreamableError, Stream
from tests.backends.cpu.networks_cpu import layerwise, streamed
from tests.export.networks_layers import EVERYTHING, LOOSE, OTHERS, STREAMED, C, Function, lively, random_network
from tests.variants import others_slow

CPU = Path(__file__).resolve().parents[3] / "gankit" / "backends" / "cpu"


def whole(net, height=32, width=20):
    x = torch.randn(1, C, height, width)
    with torch.no_grad():
        wanted = net(x.clone())
    assert wanted.std() > 1e-4  # else it proves nothing
    return x, wanted


@pytest.mark.parametrize("name", EVERYTHING)
def test_one_layer(name):
    torch.manual_seed(0)
    net = lively(nn.Sequential(nn.Conv2d(C, C, 3, padding=1), EVERYTHING[name][1](), nn.Conv2d(C, C, 3, padding=1)))
    x, wanted = whole(net)
    torch.testing.assert_close(layerwise(net, x), wanted, rtol=0, atol=1e-5)
    if name in OTHERS or (name in LOOSE and "largest" in name):
        with pytest.raises(NotStreamableError):
            Stream(for_inference(net))
    else:
        torch.testing.assert_close(streamed(net, x), wanted, rtol=0, atol=1e-5)


@pytest.mark.parametrize("seed", others_slow(range(16), 6))
def test_random_networks_stream(seed, monkeypatch):
    if seed % 2:  # their few channels make every convolution a sum of rows
        monkeypatch.setattr("gankit.backends.cpu.stages.by_rows", lambda conv: False)
    net, _ = random_network(seed, STREAMED, length=6)
    x, wanted = whole(net, height=64)
    for strip_bytes in (1, 6000, 1 << 30):
        torch.testing.assert_close(streamed(net, x, strip_bytes), wanted, rtol=0, atol=1e-5)


@pytest.mark.parametrize("seed", others_slow(range(16), 6))
def test_random_networks_run_layerwise(seed):
    net, _ = random_network(50 + seed, EVERYTHING, length=6)
    x, wanted = whole(net, height=64)
    for max_bytes in (1 << 30, 0):
        torch.testing.assert_close(layerwise(net, x, max_bytes), wanted, rtol=0, atol=1e-5)


class SqueezeExcite(nn.Module):
    """One number for each channel, from the whole image."""

    def __init__(self):
        super().__init__()
        self.conv, self.dense, self.point = nn.Conv2d(C, C, 3, padding=1), nn.Linear(C, C), nn.Conv2d(C, C, 1)

    def forward(self, x):
        y = self.conv(x)
        y = y * torch.sigmoid(self.dense(y.mean((2, 3)))).view(y.shape[0], C, 1, 1)
        return y * torch.sigmoid(self.point(F.adaptive_avg_pool2d(y, 1)))


class Attention(nn.Module):
    """Every pixel sees every other."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(C, C, 3, padding=1)

    def forward(self, x):
        y = self.conv(x)
        flat = y.flatten(2).transpose(1, 2)
        share = torch.softmax(flat @ flat.transpose(1, 2), -1)
        return (share @ flat).transpose(1, 2).reshape(y.shape) + y


class Sized(nn.Module):
    """Sizes, types and constants that are made in the forward pass."""

    def __init__(self):
        super().__init__()
        self.conv, self.gain = nn.Conv2d(C, C, 3, padding=1), nn.Parameter(torch.rand(C))
        self.register_buffer("map", torch.rand(1, 1, 32, 20))

    def forward(self, x):
        height, width = x.shape[2], x.size(3)
        y = self.conv(F.pad(x, (1, 1, 1, 1)))[:, :, 1 : height + 1, 1 : width + 1].to(x.dtype)
        return y * self.gain.exp()[:, None, None] / height + self.map + torch.zeros(1, device=x.device)


@pytest.mark.parametrize("make", [SqueezeExcite, Attention, Sized])
def test_what_sees_the_whole_image_runs_layerwise(make):
    torch.manual_seed(0)
    net = lively(nn.Sequential(make(), nn.Conv2d(C, C, 3, padding=1)))
    x, wanted = whole(net)
    for max_bytes in (1 << 30, 0):
        torch.testing.assert_close(layerwise(net, x, max_bytes), wanted, rtol=0, atol=1e-5)
    with pytest.raises(NotStreamableError) as caught:
        Stream(for_inference(net))
    assert "\n" not in str(caught.value)


def test_networks_without_convolutions_stream():
    net = lively(nn.Sequential(nn.Upsample(scale_factor=2, mode="bilinear"), nn.Tanh()))
    x, wanted = whole(net)
    torch.testing.assert_close(streamed(net, x), wanted, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (lambda net, x: x.permute(0, 2, 3, 1), r"permute\(\) in .* is not in the table of layers"),
        (lambda net, x: F.conv2d(x, x), "a weight that is computed from the image"),
        (lambda net, x: F.interpolate(x, scale_factor=1.5), r"interpolate\(\) in .* does not run in strips"),
        (lambda net, x: F.interpolate(x, size=(9, 9)), r"interpolate\(\) in .* needs the whole image"),
        (lambda net, x: (x, x), "an input that is no layer's output"),
    ],
)
def test_what_does_not_stream_is_one_line(body, message):
    with pytest.raises(NotStreamableError, match=message) as caught:
        Stream(trace(Function(body)))
    assert "\n" not in str(caught.value)


def test_networks_that_return_no_image_do_not_run_layerwise():
    x = torch.rand(1, C, 8, 8)
    with pytest.raises(UnknownLayerError, match="must return one image"):
        Layerwise(trace(Function(lambda net, x: (x, x))), 1 << 20)
    with pytest.raises(UnknownLayerError, match=r"flatten\(\) in .* gives no image"):
        layerwise(Function(lambda net, x: net.one(x).flatten(1)), x)


class Wave(nn.Module):
    """What tracing cannot look into: it leaves torch."""

    def forward(self, x):
        return torch.from_numpy(x.detach().numpy().copy()).sin()


def test_a_new_layer_is_one_row(monkeypatch):
    """Halo, streaming, layerwise runs and rewrites know it from then on."""
    net = nn.Sequential(nn.Conv2d(C, 4 * C, 3, padding=1), nn.PixelShuffle(2), Wave(), nn.Conv2d(C, C, 3, padding=1))
    lively(net)
    with pytest.raises(ValueError, match="cannot be traced"):
        for_inference(net)
    row = LayerBehaviour(Kind.POINTWISE, modules=(Wave,), window=layers.windows.same, elementwise=True)
    monkeypatch.setattr(layers, "LAYERS", (*layers.LAYERS, row))
    x, wanted = whole(net)
    assert halo(net) == 2
    torch.testing.assert_close(streamed(net, x), wanted, rtol=0, atol=1e-5)
    torch.testing.assert_close(layerwise(net, x), wanted, rtol=0, atol=1e-5)
    names = [str(node.target) for node in for_inference(net).graph.nodes if node.op == "call_module"]
    assert names == ["0", "2", "3", "1"]  # the shuffle has sunk behind it and the convolution


def test_a_layer_that_cannot_say_its_size_is_one_line(monkeypatch, capfd):
    net = lively(nn.Sequential(nn.Conv2d(C, C, 3, padding=1), Wave()))
    row = LayerBehaviour(Kind.WHOLE, modules=(Wave,))
    monkeypatch.setattr(layers, "LAYERS", (*layers.LAYERS, row))
    with pytest.raises(UnknownLayerError, match=r"layer '1' \(Wave\) cannot say the size of its result: ") as caught:
        layerwise(net, torch.rand(1, C, 8, 8))
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


def test_no_file_imports_one_that_imports_it():
    """Not inside a function either."""
    imports = {}
    for path in CPU.glob("*.py"):
        found = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ImportFrom)]
        names = {
            node.module.rpartition(".")[2] for node in found if (node.module or "").startswith("gankit.backends.cpu")
        }
        imports[path.stem] = names & {item.stem for item in CPU.glob("*.py")}
    while imports:
        free = [name for name, others in imports.items() if not others & set(imports)]
        assert free, f"these import each other: {sorted(imports)}"
        for name in free:
            del imports[name]
