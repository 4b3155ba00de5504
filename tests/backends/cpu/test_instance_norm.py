"""InstanceNorm that stays in channels_last: the same values."""

import copy

import pytest
import torch
from gankit_export.norms import Float32Norm
from gankit_export.precision import typed
from torch import nn

from gankit import models
from gankit.backends.base import EngineSpec
from gankit.backends.cpu.instance_norm import ChannelsLastInstanceNorm, keep_channels_last
from gankit.backends.eager import EagerBackend


def norm(affine=True):
    module = nn.InstanceNorm2d(6, eps=1e-4, affine=affine)
    if affine:
        nn.init.uniform_(module.weight, -2, 2)
        nn.init.uniform_(module.bias, -2, 2)
    return module


def by_hand(x, module):
    """In float64."""
    values = x.double()
    mean = values.mean((2, 3), keepdim=True)
    result = (values - mean) / torch.sqrt(values.var((2, 3), correction=0, keepdim=True) + module.eps)
    if module.affine:
        result = result * module.weight.double()[:, None, None] + module.bias.double()[:, None, None]
    return result


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize(("dtype", "error"), [(torch.float32, 2e-5), (torch.bfloat16, 0.02)])
def test_the_values_and_the_layout(affine, layout, count, dtype, error):
    torch.manual_seed(0)
    module = norm(affine)
    # Every image has a mean of its own; 40 is far above the deviation, so that sums in bf16 would be off.
    x = (torch.randn(count, 6, 9, 14) + torch.arange(count)[:, None, None, None] * 3 + 40).to(dtype)
    x = x.contiguous(memory_format=layout)
    result = ChannelsLastInstanceNorm(module)(x)
    wanted = by_hand(x, module)
    assert result.dtype == dtype
    assert result.is_contiguous(memory_format=layout)
    assert (result.double() - wanted).abs().max() <= error * wanted.abs().max()


def test_every_norm_is_replaced_and_no_other():
    net = nn.Sequential(
        norm(),
        nn.Sequential(nn.Conv2d(6, 6, 3), norm()),
        nn.GroupNorm(1, 6),
        nn.InstanceNorm2d(6, track_running_stats=True),
    ).eval()
    narrow = keep_channels_last(typed(net, "bf16", float32_edges=False))
    kinds = [type(item) for item in narrow.modules()]
    assert kinds.count(ChannelsLastInstanceNorm) == 2
    assert kinds.count(Float32Norm) == 2
    x = torch.rand(2, 6, 12, 12)
    same = keep_channels_last(copy.deepcopy(net))
    torch.testing.assert_close(same(x), net(x))
    assert not any(isinstance(item, ChannelsLastInstanceNorm) for item in net.modules())


def test_the_engine_uses_it_and_leaves_the_generator_alone():
    torch.manual_seed(1)
    options = {"channels": 8, "blocks": 2}
    net, facts = models.build("cyclegan", options).eval(), models.facts("cyclegan", options)
    image = torch.rand(2, 3, 32, 48)
    with torch.inference_mode():
        wanted = (net(image * 2 - 1) + 1) / 2
    with EagerBackend().load(EngineSpec(net, facts, "fp32")) as engine:
        assert any(isinstance(item, ChannelsLastInstanceNorm) for item in engine._module.modules())
        torch.testing.assert_close(engine.run(image), wanted, rtol=0, atol=1e-5)
    assert not any(isinstance(item, ChannelsLastInstanceNorm) for item in net.modules())
