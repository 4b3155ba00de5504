"""The rewrite: the same images from fewer operations."""

import pytest
import torch
from gankit_export.precision import DTYPES
from gankit_export.rewrites import for_inference
from gankit_kernels import fuse
from gankit_kernels.modules import FusedConvolution, FusedEpilogue, FusedNorm, FusedShuffle, inside
from torch import nn

from gankit import models
from gankit.backends.base import EngineSpec
from gankit.backends.cuda import kernels
from gankit.backends.cuda.kernels import _norm_inside
from gankit.backends.cuda.switches import KERNELS
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
    "esrgan nearest": {"channels": 8, "growth": 4, "blocks": 1},
    "msrresnet": {"channels": 8, "blocks": 2},
    "msrresnet0": {"channels": 8, "blocks": 2, "slope": 0.1},
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
    assert count(fused, nn.ReLU) == count(fused, nn.Tanh) == count(fused, nn.ReflectionPad2d) == 0
    assert not [node for node in fused.graph.nodes if "add" in str(node.target)]
    assert not biased(fused)
    epilogues = [module for module in fused.modules() if isinstance(module, FusedEpilogue)]
    # the last convolution's, and the first border, which pads the image and not the result of a norm
    assert sorted((module.activation, module.pads) for module in epilogues) == [
        ("none", (3, 3, 3, 3)),
        ("tanh", (0, 0, 0, 0)),
    ]
    views = [node for node in fused.graph.nodes if node.target is inside]
    assert len(views) == 2, "every block must read its skip inside the border that the block before wrote"


def biased(net: nn.Module) -> list[nn.Module]:
    """The convolutions with a bias."""
    kinds = nn.Conv2d, nn.ConvTranspose2d
    return [module for module in net.modules() if isinstance(module, kinds) and module.bias is not None]


ELEMENTWISE = nn.ReLU, nn.LeakyReLU, nn.PReLU, nn.Tanh, nn.ReflectionPad2d


@pytest.mark.parametrize("name", SMALL)
def test_what_an_engine_runs_between_convolutions(name):
    """No bias in a convolution, no activation or border by itself; a few additions that no convolution precedes.

    Torch's kernels for depthwise convolutions add the bias themselves.
    """
    net, _ = small(name)
    fused = fuse(for_inference(net))
    assert all(module.groups > 1 for module in biased(fused))
    left = [type(module).__name__ for module in fused.modules() if isinstance(module, ELEMENTWISE)]
    assert not left
    words = [getattr(node.target, "__name__", "") for node in fused.graph.nodes if node.op == "call_function"]
    # the enlarged image, which is added to a shuffle's result
    assert words.count("add") == (1 if name in ("srvgg", "edsr") else 0)
    assert words.count("mul") == 0
    # of a pix2pix's encoder, for the decoder
    assert words.count("relu") == (4 if name == "pix2pix" else 0)


def test_the_dense_blocks_of_esrgan():
    """Every factor of 0.2 and every addition is part of an epilogue, exact in its float32."""
    net, _ = small("esrgan")
    fused = fuse(net)
    epilogues = [module for module in fused.modules() if isinstance(module, FusedEpilogue)]
    assert sorted(module.scale for module in epilogues if module.scale != 1) == [0.2] * 4
    assert sum(module.in_place for module in epilogues) == len(epilogues) - 1, "only the sum of sums has no convolution"


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


class Blocks(nn.Module):
    """Every order of what an epilogue takes, and neighbours that it must leave alone."""

    def __init__(self):
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv2d(6, 6, 3, padding=1) for _ in range(8))
        self.tied, self.up, self.act = nn.Conv2d(6, 6, 1), nn.ConvTranspose2d(6, 6, 2, stride=2), nn.PReLU(6)
        self.deep = nn.Conv2d(6, 6, 3, padding=1, groups=6)
        self.relu, self.inplace = nn.ReLU(), nn.ReLU(inplace=True)
        self.none, self.uneven = nn.ReflectionPad2d(0), nn.ReflectionPad2d((0, 2, 1, 0))
        with torch.no_grad():
            self.act.weight.copy_(torch.rand(6))

    def forward(self, x):
        a, b, c, d, e, f, g, h = self.convs
        y = self.act(a(self.none(x))) + x  # after
        y = self.relu(b(y) + y)  # before
        y = self.relu(c(y) * 0.3 + y)  # scaled, before
        y = y + 0.5 * torch.tanh(d(y))  # scaled, after
        y = y + e(y)[:, :, :1, :1]  # broadcasts
        z = f(y)
        y = z + self.inplace(z.clone()) * 2.0  # two readers
        y = g(y) + h(y)  # two convolutions
        y = self.tied(self.tied(y)) + self.deep(y)  # called twice; many groups
        y = self.inplace(self.up(self.uneven(y)))
        return y * 2 + 1


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_every_order_of_an_epilogue(dtype):
    torch.manual_seed(0)
    net = Blocks().eval().to(dtype)
    x = torch.randn(2, 6, 9, 8, dtype=dtype)
    tolerance = {"rtol": 1e-9, "atol": 1e-10} if dtype == torch.float64 else {"rtol": 1e-4, "atol": 1e-4}
    fused = fuse(net)
    torch.testing.assert_close(fused(x), net(x), **tolerance)
    epilogues = [module for module in fused.modules() if isinstance(module, FusedEpilogue)]
    assert sorted(module.scale for module in epilogues if module.scale != 1) == [0.3, 0.5, 2.0, 2.0]
    assert sum(module.before for module in epilogues) == 2
    assert (0, 2, 1, 0) in [module.pads for module in epilogues]
    assert fused.get_submodule("tied").bias is not None
    assert fused.get_submodule("deep").bias is not None
    assert count(fused, nn.ReflectionPad2d) == 0
    gradient = torch.autograd.grad(fused(x.requires_grad_()).sum(), x)[0]
    torch.testing.assert_close(gradient, torch.autograd.grad(net(x).sum(), x)[0], **tolerance)


def test_an_epilogue_overwrites_the_convolutions_result():
    """On an engine, where nothing needs a gradient; a compiler decides by itself."""
    conv = nn.Conv2d(4, 4, 3, padding=1).eval()
    fused = fuse(nn.Sequential(conv, nn.ReLU()))
    (epilogue,) = (module for module in fused.modules() if isinstance(module, FusedEpilogue))
    seen: list[torch.Tensor] = []
    epilogue.register_forward_hook(lambda module, inputs, result: seen.extend([inputs[0], result]))
    x = torch.randn(1, 4, 5, 6)
    with torch.inference_mode():
        torch.testing.assert_close(fused(x), conv(x).relu())
    assert seen[0].data_ptr() == seen[1].data_ptr()
    compiled = torch.compile(fused, backend="aot_eager", fullgraph=True)
    with torch.inference_mode():
        torch.testing.assert_close(compiled(x), conv(x).relu())


@pytest.mark.parametrize("name", ["srgan", "cyclegan", "cyclegan batch", "pix2pix", "msrresnet", "esrgan"])
def test_wider_convolutions_give_the_same_images(name):
    """Channels of 0 for tensor cores: the same values, from weights that are multiples of 8."""
    net, facts = small(name)
    net = for_inference(net).to(torch.bfloat16)
    plain, wide = fuse(net, _norm_inside), fuse(net, _norm_inside, pad_outputs=8, pad_inputs=4)
    side = 2 * facts.multiple if facts.multiple > 8 else 24
    x = torch.rand(1, 3, side, side).bfloat16().contiguous(memory_format=torch.channels_last)
    plain.float(), wide.float()
    torch.testing.assert_close(wide(x.float()), plain(x.float()), rtol=1e-4, atol=1e-4)
    convs = [module for module in wide.modules() if isinstance(module, nn.Conv2d | nn.ConvTranspose2d)]
    assert all(module.in_channels >= 4 for module in convs)
    last = convs[-1]
    assert last.out_channels % 8 == 0
    assert last.weight.shape[1 if isinstance(last, nn.ConvTranspose2d) else 0] == last.out_channels
    full = fuse(net.float(), _norm_inside, pad_outputs=8, pad_inputs=4)
    assert any(
        module.out_channels % 8 for module in full.modules() if isinstance(module, nn.Conv2d | nn.ConvTranspose2d)
    )


def test_cudnns_own_relu():
    net, _ = small("msrresnet")
    fused = fuse(net, cudnn_relu=True)
    assert count(fused, FusedConvolution) == 2, "the first convolution of each block"
    x = torch.rand(1, 3, 12, 10)
    for layout in (torch.contiguous_format, torch.channels_last):
        torch.testing.assert_close(fused(x.contiguous(memory_format=layout)), net(x))
    compiled = torch.compile(fused, backend="aot_eager", fullgraph=True)
    with torch.inference_mode():
        torch.testing.assert_close(compiled(x), net(x))


@pytest.mark.parametrize(
    "precision", ["fp32", pytest.param("bf16", marks=pytest.mark.slow), pytest.param("fp16", marks=pytest.mark.slow)]
)
@pytest.mark.parametrize("name", ["cyclegan", "animegan", "srgan", "esrgan", "srvgg", "pix2pix", "cyclegan batch"])
def test_an_engines_module_before_and_after(name, precision):
    """The module of a GPU engine, run on a CPU: fusing it does not add to the error of its precision.

    The error is the RMSE over several images. The largest error of one image depends on how a CPU rounds.
    """
    net, facts = small(name)
    plain = typed_module(EngineSpec(net, facts, precision))
    fused = kernels.with_kernels(plain)
    assert count(fused, FusedNorm) + count(fused, FusedShuffle) + count(fused, FusedEpilogue) >= 1
    dtype = DTYPES[precision]
    x = (torch.rand(4, 3, 32, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1).to(dtype)
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
    monkeypatch.delenv(KERNELS, raising=False)
    assert count(ready(EngineSpec(net, facts, device="cuda")), FusedNorm) > 0
    assert count(ready(EngineSpec(net, facts, device="cuda", kernels=False)), FusedNorm) == 0
    assert count(ready(EngineSpec(net, facts, device="cpu")), FusedNorm) == 0
    monkeypatch.setenv(KERNELS, "off")
    assert count(ready(EngineSpec(net, facts, device="cuda")), FusedNorm) == 0
    monkeypatch.setenv(KERNELS, "on")
    half = EngineSpec(net, facts, "fp16", "cuda")
    for word, channels in (("", 8), ("16", 16), ("1", 3)):
        monkeypatch.setenv(kernels.PAD_OUTPUTS, word)
        convs = [module for module in ready(half).modules() if isinstance(module, nn.Conv2d)]
        assert convs[-1].out_channels == channels
    monkeypatch.setenv(kernels.PAD_INPUTS, "4")
    assert next(module for module in ready(half).modules() if isinstance(module, nn.Conv2d)).in_channels == 4
    monkeypatch.setenv(kernels.PAD_INPUTS, "many")
    with pytest.raises(UsageError, match="GANKIT_PAD_INPUTS must be a number from 1 to 64, not 'many'"):
        ready(half)
    monkeypatch.delenv(kernels.PAD_INPUTS)
    monkeypatch.setenv(kernels.CUDNN_RELU, "on")
    assert count(ready(EngineSpec(*small("msrresnet"), "fp16", "cuda")), FusedConvolution) == 2
    monkeypatch.setenv(KERNELS, "maybe")
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
