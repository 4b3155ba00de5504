"""Dense blocks without concatenations: the operation against its formula, and the rewrite of real networks."""

import pytest
import torch
from gankit_export.rewrites import for_inference
from gankit_kernels import fuse, spread
from gankit_kernels.fuse_dense import DenseStart, DenseStep
from torch import nn

from gankit import models
from gankit.backends.base import EngineSpec
from gankit.backends.cuda.kernels import DENSE
from gankit.backends.modules import ready
from tests.kernels.cases import LAYOUTS, assert_rounded, exact_epilogue, image


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.float64])
def test_the_formula(dtype, layout):
    x, residual = image((2, 6, 4, 5), dtype, layout), image((2, 6, 4, 5), dtype, layout, seed=1)
    targets = [torch.full((2, wide, 4, 5), 7.0, dtype=dtype) for wide in (8, 14, 9)]
    bias = torch.randn(6)
    exact = exact_epilogue(x, bias, None, residual, activation="leaky_relu", slope=0.2, scale=0.5)
    copy = x.clone(memory_format=torch.preserve_format)
    spread(copy, targets, 2, bias, residual=residual, result=copy, activation="leaky_relu", slope=0.2, scale=0.5)
    for item in (copy, *(target[:, 2:8] for target in targets)):
        assert_rounded(item, exact, dtype)
    for target in targets:
        assert (target[:, :2] == 7).all()
        assert (target[:, 8:] == 7).all()


def test_wrong_arguments():
    x, target = torch.zeros(1, 4, 3, 3), torch.zeros(1, 8, 3, 3)
    with pytest.raises(ValueError, match="channels 5 to 9 do not fit a target of 8 channels"):
        spread(x, [target], 5)
    with pytest.raises(ValueError, match="a target must be of shape"):
        spread(x, [target[:, :, :2]], 0)
    with pytest.raises(TypeError, match=r"must be torch\.float32"):
        spread(x, [target.half()], 0)
    with pytest.raises(ValueError, match="prelu is itself an activation"):
        spread(x, [target], 0, prelu=torch.ones(1), activation="relu")


def network(name, **options):
    torch.manual_seed(0)
    net = models.build(name, options)
    with torch.no_grad():
        for item in net.parameters():
            item.add_(torch.randn_like(item) * 0.1)
    return net.eval()


def cats(module):
    return [node for node in module.graph.nodes if node.target is torch.cat]


def count(net, kind):
    return sum(isinstance(module, kind) for module in net.modules())


ESRGAN = {"channels": 8, "growth": 4, "blocks": 2}


@pytest.mark.parametrize("rewritten", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_esrgan_is_the_same_without_concatenations(dtype, rewritten):
    net = network("esrgan", **ESRGAN).to(dtype)
    source = for_inference(net) if rewritten else net
    plain, fused = fuse(source), fuse(source, dense=True)
    assert len(cats(plain)) == 2 * 3 * 4
    assert cats(fused) == []
    assert (count(fused, DenseStart), count(fused, DenseStep)) == (6, 24)
    # the first block's input is read by others, too; every other one comes out of an epilogue in the same pass
    assert all(module.before is not None for module in fused.modules() if isinstance(module, DenseStart))
    for shape in ((1, 3, 7, 10), (2, 3, 9, 6)):
        x = torch.rand(shape, dtype=dtype).contiguous(memory_format=torch.channels_last)
        with torch.inference_mode():
            wanted, made, again = net(x), fused(x), plain(x)
        scale = wanted.abs().max()
        assert (made - wanted).abs().max() <= (1e-6 if dtype == torch.float32 else 1e-13) * scale
        assert (made - again).abs().max() <= (1e-6 if dtype == torch.float32 else 1e-13) * scale


class Odd(nn.Module):
    """Concatenations that are no dense block, each for another reason, around one that is."""

    def __init__(self):
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv2d(4 + 4 * index, 4, 3, padding=1) for index in range(3))
        self.wide = nn.Conv2d(8, 4, 1)
        self.act = nn.LeakyReLU(0.2)

    def forward(self, x, kind):
        f1 = self.act(self.convs[0](x))
        f2 = self.act(self.convs[1](torch.cat([x, f1], 1)))
        whole = torch.cat([x, f1, f2], 1)
        if kind == "read elsewhere":
            return self.convs[2](whole) + f1
        if kind == "another order":
            return self.convs[2](torch.cat([f1, x, f2], 1))
        if kind == "one only":
            return self.wide(torch.cat([x, f1], 1))
        if kind == "by keyword":
            return self.convs[2](torch.cat((x, f1, f2), dim=1)) + self.convs[2](whole)
        return self.convs[2](whole)


class Fixed(nn.Module):
    def __init__(self, kind):
        super().__init__()
        self.net, self.kind = Odd(), kind

    def forward(self, x):
        return self.net(x, self.kind)


@pytest.mark.parametrize("kind", ["a block", "read elsewhere", "another order", "one only", "by keyword"])
def test_what_is_no_dense_block_stays(kind):
    torch.manual_seed(0)
    net = Fixed(kind).eval()
    fused = fuse(net, dense=True)
    assert (count(fused, DenseStart) > 0) == (kind == "a block")
    x = torch.rand(1, 4, 6, 5)
    with torch.inference_mode():
        torch.testing.assert_close(fused(x), net(x), rtol=1e-6, atol=1e-6)


def test_engines_use_it_unless_they_compile(monkeypatch):
    spec = EngineSpec(network("esrgan", **ESRGAN), models.facts("esrgan", ESRGAN), device="cuda")
    monkeypatch.setattr("gankit.backends.modules.channels_last", lambda module, device: module)
    assert count(ready(spec), DenseStart) == 6
    assert count(ready(spec, compiled=True), DenseStart) == 0
    monkeypatch.setenv(DENSE, "off")
    assert count(ready(spec), DenseStart) == 0
