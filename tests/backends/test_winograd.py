"""Streams and modules whose convolutions run by Winograd's algorithm, against the networks themselves."""

import sys
from collections import Counter

import pytest
import torch
from gankit_export.rewrites import for_inference
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

pytest.importorskip("llvmlite")

from gankit import backends
from gankit.backends.base import EngineSpec
from gankit.backends.cpu.convolution import ResidualChain
from gankit.backends.cpu.stages import build_stages
from gankit.backends.cpu.winograd import WinogradConv, WinogradConv2d, with_winograd
from gankit.errors import BackendError
from gankit.models import build, facts
from tests.networks import small_srgan

FAMILIES = {
    "edsr": {"channels": 16, "blocks": 3, "scale": 4},
    "srgan": {"channels": 16, "blocks": 3, "scale": 2},
    "esrgan": {"channels": 32, "growth": 16, "blocks": 1},
    "srvgg": {"channels": 40, "convs": 3},
    "cyclegan": {"channels": 16, "blocks": 2},
    "animegan": {},
}


def engine_of(name, options, **rest):
    torch.manual_seed(0)
    net = build(name, options).eval()
    for module in net.modules():
        if isinstance(module, nn.PReLU):
            nn.init.uniform_(module.weight, -0.2, 0.5)
    return net, backends.get("winograd").load(EngineSpec(net, facts(name, options), **rest))


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("name", FAMILIES)
def test_families(name, threads):
    net, engine = engine_of(name, FAMILIES[name], threads=threads)
    engine_facts = facts(name, FAMILIES[name])
    assert engine.wants == ("images" if name not in ("cyclegan", "animegan") else "tiles")
    for size in ((32, 48), (64, 88)):
        x = torch.rand(2, 3, *size)
        low, high = engine_facts.value_range
        with torch.no_grad():
            wanted = (net(x * (high - low) + low) - low) / (high - low)
        difference = (engine.run(x) - wanted).abs().max()
        assert difference < 1e-4 * wanted.abs().max().clamp(min=1)
    engine.close()


@pytest.mark.parametrize("strip_bytes", [1, 20_000, 1 << 30])
@pytest.mark.parametrize("size", [(1, 1), (1, 9), (5, 3), (17, 40), (131, 12)])
def test_strips_equal_the_whole(size, strip_bytes):
    from gankit.backends.cpu.streaming import Stream

    net, image = small_srgan(scale=2, channels=16, blocks=3), torch.rand(1, 3, *size)
    canvas = torch.full((1, 3, 2 * size[0], 2 * size[1]), torch.nan)

    def write(rows, row):
        canvas[:, :, row : row + rows.shape[2]] = rows

    with torch.inference_mode():
        Stream(for_inference(net), strip_bytes, winograd=True).run(image, lambda rows: rows, write)
        torch.testing.assert_close(canvas, net(image), rtol=0, atol=1e-5)


def test_activations_and_additions_are_part_of_the_convolutions():
    net = for_inference(build("edsr", FAMILIES["edsr"]).eval())
    _, _, stages = build_stages(net, 1 << 20, fast=True)
    (chain,) = (stage for stage in stages if isinstance(stage, ResidualChain))
    assert all(isinstance(conv, WinogradConv) for block in chain._blocks for conv in block)
    net = for_inference(build("srvgg", FAMILIES["srvgg"]).eval())
    _, _, plain = build_stages(net, 1 << 20)
    _, _, stages = build_stages(net, 1 << 20, fast=True)
    assert len(stages) == len(plain) - 3  # the PReLUs, of which oneDNN knows none


class Allocations(TorchDispatchMode):
    """Counts the operators that return new memory of more than 16 KB."""

    def __init__(self):
        super().__init__()
        self.found = Counter()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        given = {_memory(item) for item in tree_leaves((args, kwargs))}
        for item in tree_leaves(result):
            if _memory(item) not in given and item.numel() * item.element_size() > 16 << 10:
                self.found[function.overloadpacket.__name__] += 1
        return result


def _memory(value):
    plain = isinstance(value, torch.Tensor) and value.layout == torch.strided
    return value.untyped_storage().data_ptr() if plain else None


def test_strips_after_the_first_ones_need_no_new_memory():
    """Except for what oneDNN and PixelShuffle return, which take no place for it, and for what waits to be added."""
    net = for_inference(small_srgan(scale=4, channels=16, blocks=3))
    strips, allocations = [], Allocations()

    def prepare(rows):
        strips.append(allocations.found.copy())
        allocations.found.clear()
        return rows

    from gankit.backends.cpu.streaming import Stream

    stream, image = (
        Stream(net, 200_000, winograd=True),
        torch.rand(1, 3, 600, 32).contiguous(memory_format=torch.channels_last),
    )
    with torch.inference_mode(), allocations:
        stream.run(image, prepare, lambda rows, row: None)
    assert len(strips) >= 6
    assert strips[1]["empty"] > 10
    for found in strips[4:]:  # the last strip, which also ends the image, is not among them
        assert set(found) == {"_convolution_pointwise", "pixel_shuffle", "clone"}, found
        assert found["_convolution_pointwise"] == 1
        assert found["clone"] <= 2


@pytest.mark.parametrize("activation", [nn.ReLU(), nn.LeakyReLU(0.3), nn.PReLU(), nn.PReLU(4, 0.3)])
@pytest.mark.parametrize("fast", [False, True])
def test_activations_behind_a_shuffle(activation, fast):
    from gankit.backends.cpu.streaming import Stream

    torch.manual_seed(0)
    if isinstance(activation, nn.PReLU):
        nn.init.uniform_(activation.weight, -0.5, 0.5)
    layers = nn.Sequential(nn.Conv2d(16, 16, 3, padding=1), nn.PixelShuffle(2), activation, nn.Conv2d(4, 3, 1))
    net, image = for_inference(layers.eval()), torch.randn(1, 16, 40, 9)
    canvas = torch.full((1, 3, 80, 18), torch.nan)

    def write(rows, row):
        canvas[:, :, row : row + rows.shape[2]] = rows

    with torch.inference_mode():
        Stream(net, 2000, winograd=fast).run(image, lambda rows: rows, write)
        torch.testing.assert_close(canvas, net(image), rtol=0, atol=1e-5)


@pytest.mark.parametrize("padding", [0, 2, (0, 1), 3, "same"])
def test_modules_with_five_rows_and_columns(padding):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(16, 12, 5, padding=padding), nn.InstanceNorm2d(12), nn.Conv2d(12, 3, 1))
    x = torch.randn(2, 16, 11, 14)
    with torch.inference_mode():
        wanted = net(x)
        made = with_winograd(net)
        assert isinstance(made[0], WinogradConv2d) == (padding not in (3, "same"))
        torch.testing.assert_close(made(x), wanted, rtol=0, atol=1e-5)


def test_a_network_without_such_convolutions_is_refused():
    with pytest.raises(BackendError, match="has no 3×3 or 5×5 convolutions that gain; use --backend eager"):
        engine_of("pix2pix", {"channels": 8, "downs": 3})


def test_what_it_cannot_do(monkeypatch):
    with pytest.raises(BackendError, match="does not run layerwise; use --backend eager"):
        engine_of("edsr", FAMILIES["edsr"], layer_bytes=1 << 20)
    with pytest.raises(BackendError, match="does not run bf16 on cpu"):
        engine_of("edsr", FAMILIES["edsr"], precision="bf16")
    with pytest.raises(BackendError, match="does not run models that generate"):
        engine_of("dcgan", {})
    monkeypatch.setitem(sys.modules, "llvmlite", None)
    monkeypatch.setattr("gankit.backends.winograd.find_spec", lambda name: None)
    with pytest.raises(BackendError, match=r"llvmlite is not installed: pip install 'gankit\[cpu\]'"):
        engine_of("edsr", FAMILIES["edsr"])
