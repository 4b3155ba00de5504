"""The typed module: narrow convolutions, float32 statistics."""

import copy

import pytest
import torch
from gankit_export.norms import Float32Norm
from gankit_export.precision import RangeError, typed
from gankit_export.rewrites import for_inference
from torch import nn

from tests.export.networks_export import Instance, small_srresnet


@pytest.mark.parametrize(("precision", "dtype"), [("fp16", torch.float16), ("bf16", torch.bfloat16)])
def test_convolutions_are_narrow_and_norms_are_not(precision, dtype):
    module = Instance().eval()
    before = copy.deepcopy(module.state_dict())
    result = typed(module, precision)
    convolutions = [m for m in result.modules() if isinstance(m, (nn.Conv2d, nn.ConvTranspose2d))]
    assert len(convolutions) == 4
    assert all(p.dtype == dtype for m in convolutions for p in m.parameters())
    norms = [m for m in result.modules() if isinstance(m, (nn.GroupNorm, nn.InstanceNorm2d))]
    assert len(norms) == 2 == sum(isinstance(m, Float32Norm) for m in result.modules())
    assert all(p.dtype == torch.float32 for m in norms for p in m.parameters())
    for name, value in module.state_dict().items():
        assert value.dtype == torch.float32
        torch.testing.assert_close(value, before[name], atol=0, rtol=0)


@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
def test_edges_are_float32(precision):
    x = torch.rand(1, 3, 16, 24)
    assert typed(Instance(), precision)(x).dtype == torch.float32


def test_inner_type_at_the_edges_on_request():
    x = torch.rand(1, 3, 16, 24)
    assert typed(Instance(), "bf16", float32_edges=False)(x.bfloat16()).dtype == torch.bfloat16


def test_statistics_do_not_overflow():
    """Values near 1000: their squares do not fit fp16. The normalised result must be that of fp32."""
    norm = nn.Sequential(nn.InstanceNorm2d(3, affine=True))
    x = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 400 + 1000
    result = typed(norm, "fp16")(x)
    # 1000 has a spacing of 0.5 in fp16 and is divided by a deviation of 400
    torch.testing.assert_close(result, norm(x), atol=4e-3, rtol=0)


def test_batch_norm_left_alone_keeps_its_statistics():
    norm = nn.BatchNorm2d(4).eval()
    norm.running_var.fill_(1e6)
    norm.running_mean.fill_(2000.3)
    result = typed(norm, "fp16", float32_edges=False)
    inner = next(m for m in result.modules() if isinstance(m, nn.BatchNorm2d))
    assert inner.running_var.dtype == torch.float32
    assert float(inner.running_mean[0]) == pytest.approx(2000.3, abs=1e-3)


def test_folded_network_is_all_narrow():
    result = typed(for_inference(small_srresnet()), "fp16")
    assert {p.dtype for p in result.parameters()} == {torch.float16}


def test_weights_beyond_fp16():
    module = nn.Sequential(nn.Conv2d(3, 3, 3))
    module[0].weight.data.fill_(1e5)
    with pytest.raises(RangeError, match=r"0\.weight.*take bf16 or fp32"):
        typed(module, "fp16")
    typed(module, "bf16")


def test_unknown_precision():
    with pytest.raises(ValueError, match="fp32, bf16, fp16"):
        typed(nn.Identity(), "int8")
