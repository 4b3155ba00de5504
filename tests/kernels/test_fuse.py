"""The rewrite: the same pictures, fewer operations."""

import pytest
import torch
from gankit_export.precision import DTYPES
from gankit_kernels import fuse
from gankit_kernels.modules import FusedNorm, FusedShuffle, inside
from torch import nn

from gankit import models
from gankit.backends import kernels
from gankit.backends.base import Request
from gankit.backends.eager import ModuleEngine, ready, typed_module
from gankit.errors import UsageError

SMALL = {
    "cyclegan": {"channels": 8, "blocks": 2},
    "cyclegan separable": {"channels": 8, "blocks": 2, "separable": True},
    "cyclegan dropout": {"channels": 8, "blocks": 2, "dropout": 0.5, "antialias": True, "antialias_up": True},
    "cyclegan batch": {"channels": 8, "blocks": 2, "norm": "batch"},
    "pix2pix": {"channels": 8, "downs": 5},
    "animegan": {"channels": 8, "blocks": 2},
    "cartoongan": {"channels": 8, "blocks": 2},
    "srgan": {"channels": 8, "blocks": 2, "slopes": "channel"},
    "esrgan": {"channels": 8, "growth": 4, "blocks": 1, "upsampler": "shuffle"},
    "srvgg": {"channels": 8, "convs": 2},
}


def small(name: str) -> tuple[nn.Module, object]:
    """A generator with parameters that are all at work, in eval mode."""
    model, options = name.split()[0], SMALL[name]
    torch.manual_seed(0)
    net = models.build(model, options)
    with torch.no_grad():
        for item in net.parameters():
            item.add_(torch.randn_like(item) * 0.1)
    return net.eval(), models.facts(model, options)


def count(net: nn.Module, kind: type[nn.Module]) -> int:
    return sum(isinstance(module, kind) for module in net.modules())


@pytest.mark.parametrize("name", SMALL)
def test_the_same_pictures(name):
    net, facts = small(name)
    before = {key: value.clone() for key, value in net.state_dict().items()}
    fused = fuse(net)
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items()), "the argument is changed"
    side = 2 * facts.multiple if facts.multiple > 8 else 24
    x = torch.rand(2, 3, side, side + facts.multiple * 2)
    for layout in (torch.contiguous_format, torch.channels_last):
        y = x.contiguous(memory_format=layout)
        torch.testing.assert_close(fused(y), net(y), rtol=1e-4, atol=1e-5)
    assert count(fused, nn.InstanceNorm2d) == count(fused, nn.GroupNorm) == count(fused, nn.PixelShuffle) == 0
    assert count(fused, FusedNorm) == count(net, nn.InstanceNorm2d) + count(net, nn.GroupNorm)
    assert count(fused, FusedShuffle) == count(net, nn.PixelShuffle)


def test_all_of_cyclegan_is_fused():
    net, _ = small("cyclegan")
    fused = fuse(net)
    assert count(fused, nn.ReLU) == 0
    # left is the first border, which pads the picture, not a norm's result
    assert count(fused, nn.ReflectionPad2d) == 1
    assert not [node for node in fused.graph.nodes if "add" in str(node.target)]
    biased = [
        module
        for module in fused.modules()
        if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)) and module.bias is not None
    ]
    assert len(biased) == 1, "only the last convolution has no norm behind it"
    views = [node for node in fused.graph.nodes if node.target is inside]
    assert len(views) == 2, "every block's skip is read inside the border that the block before wrote"


def test_shuffles_take_bias_and_slopes():
    net, _ = small("srgan")
    fused = fuse(net)
    shuffles = [module for module in fused.modules() if isinstance(module, FusedShuffle)]
    assert [module.order for module in shuffles] == ["dcr", "dcr"]
    assert all(module.bias is not None and module.prelu is not None for module in shuffles)


def test_what_must_not_be_fused():
    class Network(nn.Module):
        def __init__(self):
            super().__init__()
            self.shared = nn.Conv2d(4, 4, 1)
            self.norm, self.running = nn.InstanceNorm2d(4), nn.InstanceNorm2d(4, track_running_stats=True)
            self.groups, self.relu = nn.GroupNorm(2, 4), nn.ReLU()
            self.uneven = nn.ReflectionPad2d((1, 2, 1, 0))

        def forward(self, x):
            y = self.norm(self.shared(x))
            z = self.relu(y) + y  # two readers: the norm's own result is needed
            z = self.running(self.shared(z)) + self.groups(z)
            return self.uneven(self.norm(z) + z.mean((2, 3), keepdim=True))  # an addition that stretches

    net = Network().eval()
    x = torch.randn(2, 4, 9, 8)
    torch.testing.assert_close(fuse(net)(x), net(x))
    assert fuse(net).get_submodule("shared").bias is not None, "also called where no norm follows"


def test_a_network_without_graph_is_named():
    class Dataful(nn.Module):
        def forward(self, x):
            return x if x.mean() > 0 else -x

    with pytest.raises(ValueError, match="Dataful cannot be traced"):
        fuse(Dataful())


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize("name", ["cyclegan", "animegan", "srgan"])
def test_an_engines_module_before_and_after(name, precision):
    """What a GPU engine runs, here on a CPU: parity in the engine's precision."""
    net, facts = small(name)
    plain = typed_module(Request(net, facts, precision))
    fused = kernels.with_kernels(plain)
    assert count(fused, FusedNorm) + count(fused, FusedShuffle) >= 1
    dtype = DTYPES[precision]
    x = (torch.rand(1, 3, 24, 32) * 2 - 1).to(dtype)
    with torch.inference_mode():
        wanted, result = net(x.float()), fused(x)
        assert result.dtype == dtype
        error, before = (result.float() - wanted).abs().max(), (plain(x).float() - wanted).abs().max()
    assert error <= max(1.5 * before, 1e-4)
    norms = [module for module in fused.modules() if isinstance(module, FusedNorm) and module.weight is not None]
    assert all(norm.weight.dtype == torch.float32 for norm in norms)


def test_the_switch(monkeypatch):
    net, facts = small("cyclegan")
    monkeypatch.setattr(nn.Module, "to", lambda self, *args, **kwargs: self)
    monkeypatch.delenv(kernels.SWITCH, raising=False)
    assert count(ready(Request(net, facts, device="cuda")), FusedNorm) > 0
    assert count(ready(Request(net, facts, device="cuda", kernels=False)), FusedNorm) == 0
    assert count(ready(Request(net, facts, device="cpu")), FusedNorm) == 0
    monkeypatch.setenv(kernels.SWITCH, "off")
    assert count(ready(Request(net, facts, device="cuda")), FusedNorm) == 0
    monkeypatch.setenv(kernels.SWITCH, "maybe")
    with pytest.raises(UsageError, match="GANKIT_KERNELS must be on or off, not 'maybe'"):
        Request(net, facts)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.uint16])
def test_integers_at_an_engines_edges(dtype):
    """The edges of a GPU engine, run on a CPU, give the very pixels of the separate operations."""
    net, facts = small("cyclegan")
    batch = torch.randint(0, 256, (2, 24, 32, 3)).to(dtype).permute(0, 3, 1, 2)
    plain = ModuleEngine("eager", Request(net, facts), net)
    engine = ModuleEngine("eager", Request(net, facts), net)
    engine._kernels = True
    assert torch.equal(engine.run(batch).int(), plain.run(batch).int())
    assert engine.run(batch).is_contiguous(memory_format=torch.channels_last)
