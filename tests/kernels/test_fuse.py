"""The rewrite: the same images from fewer operations."""

import pytest
import torch
from gankit_export.precision import DTYPES
from gankit_kernels import fuse
from gankit_kernels.modules import FusedNorm, FusedShuffle, inside
from torch import nn

from gankit import models
from gankit.backends.base import EngineSpec
from gankit.backends.cuda import kernels
from gankit.backends.modules import ModuleEngine, ready, typed_module
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
    "edsr": {"channels": 8, "blocks": 2},
    "edsr published": {"channels": 8, "blocks": 2, "tail": "edsr", "mean": [0.4, 0.5, 0.6], "res_scale": 0.1},
}


def small(name: str) -> tuple[nn.Module, object]:
    """A generator in eval mode whose parameters all have an effect."""
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
def test_the_same_images(name):
    """In float64, where the rounding of one CPU or another does not count."""
    net, facts = small(name)
    net.double()
    before = {key: value.clone() for key, value in net.state_dict().items()}
    fused = fuse(net)
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items()), "fuse changed its argument"
    side = 2 * facts.multiple if facts.multiple > 8 else 24
    x = torch.rand(2, 3, side, side + facts.multiple * 2, dtype=torch.float64)
    for layout in (torch.contiguous_format, torch.channels_last):
        y = x.contiguous(memory_format=layout)
        torch.testing.assert_close(fused(y), net(y), rtol=1e-8, atol=1e-10)
    assert count(fused, nn.InstanceNorm2d) == count(fused, nn.GroupNorm) == count(fused, nn.PixelShuffle) == 0
    assert count(fused, FusedNorm) == count(net, nn.InstanceNorm2d) + count(net, nn.GroupNorm)
    assert count(fused, FusedShuffle) == count(net, nn.PixelShuffle)


def test_all_of_cyclegan_is_fused():
    net, _ = small("cyclegan")
    fused = fuse(net)
    assert count(fused, nn.ReLU) == 0
    # the first border remains: it pads the image, not the result of a norm
    assert count(fused, nn.ReflectionPad2d) == 1
    assert not [node for node in fused.graph.nodes if "add" in str(node.target)]
    biased = [
        module
        for module in fused.modules()
        if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)) and module.bias is not None
    ]
    assert len(biased) == 1, "only the last convolution has no norm after it"
    views = [node for node in fused.graph.nodes if node.target is inside]
    assert len(views) == 2, "every block must read its skip inside the border that the block before wrote"


def test_shuffles_take_bias_and_slopes():
    net, _ = small("srgan")
    fused = fuse(net)
    shuffles = [module for module in fused.modules() if isinstance(module, FusedShuffle)]
    assert [module.order for module in shuffles] == ["dcr", "dcr"]
    assert all(module.bias is not None and module.prelu is not None for module in shuffles)


def test_networks_that_must_not_be_fused():
    class Network(nn.Module):
        def __init__(self):
            super().__init__()
            self.shared = nn.Conv2d(4, 4, 1)
            self.norm, self.running = nn.InstanceNorm2d(4), nn.InstanceNorm2d(4, track_running_stats=True)
            self.groups, self.relu = nn.GroupNorm(2, 4), nn.ReLU()
            self.uneven = nn.ReflectionPad2d((1, 2, 1, 0))

        def forward(self, x):
            y = self.norm(self.shared(x))
            z = self.relu(y) + y  # two readers need the norm's own result
            z = self.running(self.shared(z)) + self.groups(z)
            return self.uneven(self.norm(z) + z.mean((2, 3), keepdim=True))  # an addition that broadcasts

    net = Network().eval()
    x = torch.randn(2, 4, 9, 8)
    torch.testing.assert_close(fuse(net)(x), net(x))
    assert fuse(net).get_submodule("shared").bias is not None, "this convolution is also called where no norm follows"


def test_an_error_names_the_network_that_cannot_be_traced():
    class Dataful(nn.Module):
        def forward(self, x):
            return x if x.mean() > 0 else -x

    with pytest.raises(ValueError, match="Dataful cannot be traced"):
        fuse(Dataful())


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize("name", ["cyclegan", "animegan", "srgan"])
def test_an_engines_module_before_and_after(name, precision):
    """The module of a GPU engine, run on a CPU: fusing it does not add to the error of its precision.

    The error is the RMSE over several images. The largest error of one image depends on how a CPU rounds.
    """
    net, facts = small(name)
    plain = typed_module(EngineSpec(net, facts, precision))
    fused = kernels.with_kernels(plain)
    assert count(fused, FusedNorm) + count(fused, FusedShuffle) >= 1
    dtype = DTYPES[precision]
    x = (torch.rand(4, 3, 24, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1).to(dtype)
    with torch.inference_mode():
        wanted, results = net(x.float()), (plain(x), fused(x))
    assert results[1].dtype == dtype
    before, after = ((result.double() - wanted).square().mean().sqrt().item() for result in results)
    assert after <= max(1.3 * before, 1e-5), f"RMSE {after:.3g} after, {before:.3g} before"
    norms = [module for module in fused.modules() if isinstance(module, FusedNorm) and module.weight is not None]
    assert all(norm.weight.dtype == torch.float32 for norm in norms)


def test_the_switch(monkeypatch):
    net, facts = small("cyclegan")
    monkeypatch.setattr(nn.Module, "to", lambda self, *args, **kwargs: self)
    monkeypatch.delenv(kernels.SWITCH, raising=False)
    assert count(ready(EngineSpec(net, facts, device="cuda")), FusedNorm) > 0
    assert count(ready(EngineSpec(net, facts, device="cuda", kernels=False)), FusedNorm) == 0
    assert count(ready(EngineSpec(net, facts, device="cpu")), FusedNorm) == 0
    monkeypatch.setenv(kernels.SWITCH, "off")
    assert count(ready(EngineSpec(net, facts, device="cuda")), FusedNorm) == 0
    monkeypatch.setenv(kernels.SWITCH, "maybe")
    with pytest.raises(UsageError, match="GANKIT_KERNELS must be on or off, not 'maybe'"):
        EngineSpec(net, facts)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.uint16])
def test_integers_at_an_engines_edges(dtype):
    """The edges of a GPU engine, run on a CPU, give the same pixels as the separate operations."""
    net, facts = small("cyclegan")
    batch = torch.randint(0, 256, (2, 24, 32, 3)).to(dtype).permute(0, 3, 1, 2)
    plain = ModuleEngine("eager", EngineSpec(net, facts), net)
    engine = ModuleEngine("eager", EngineSpec(net, facts), net)
    engine._kernels = True
    assert torch.equal(engine.run(batch).int(), plain.run(batch).int())
    assert engine.run(batch).is_contiguous(memory_format=torch.channels_last)
