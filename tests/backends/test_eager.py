"""What the torch engines do beside running the layers: precision, overflow, threads."""

from contextlib import suppress

import pytest
import torch
from gankit_export.norms import Float32Norm
from gankit_export.precision import DTYPES
from torch import nn

from gankit.backends.base import EngineSpec
from gankit.backends.choice.parity import compare, reference
from gankit.backends.cpu import threads
from gankit.backends.cpu.engines import StreamingEngine
from gankit.backends.cpu.instructions import bf16_on_cpu
from gankit.backends.cuda.precision import exact_fp32
from gankit.backends.eager import EagerBackend
from gankit.backends.modules import ModuleEngine, typed_module
from gankit.errors import BackendError, NotFiniteError
from gankit.models import Facts, facts
from tests.networks import small_srgan

SAME_SIZE = Facts(name="test", task="translate", value_range=(0, 1))
OPTIONS = {"scale": 4, "channels": 16, "blocks": 2}


class Loud(nn.Module):
    """A thousand times too large for fp16 where a pixel is white."""

    def forward(self, x):
        return x * 60000 * 1000 / 60000000


def loud(precision):
    spec = EngineSpec(Loud(), SAME_SIZE, precision)
    return ModuleEngine("eager", spec, Loud().to(DTYPES[precision]))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.uint16])
def test_an_overflow_in_fp16_is_reported_and_not_painted_black(dtype):
    white = torch.full((1, 3, 4, 4), torch.iinfo(dtype).max, dtype=torch.int64).to(dtype)
    with pytest.raises(NotFiniteError, match="range of fp16"):
        loud("fp16").run(white)
    black = torch.zeros_like(white)
    assert torch.equal(loud("fp16").run(black), black)
    assert torch.equal(loud("fp32").run(white), white)


def test_float32_shows_the_overflow_itself():
    """So that the parity check sees what is wrong."""
    assert loud("fp16").run(torch.ones(1, 3, 4, 4)).isinf().all()


def norm_first():
    """A BatchNorm that no convolution can take in, and whose mean bf16 would round by 3."""
    net = nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(3, 3, 3, padding=1)).eval()
    net[0].running_mean.fill_(1003.0)
    net[0].bias.data.fill_(1003.4)
    return net.requires_grad_(False)


@pytest.mark.skipif(not bf16_on_cpu(), reason="this CPU has no bf16")
def test_statistics_stay_float32():
    spec = EngineSpec(norm_first(), SAME_SIZE, "bf16")
    (norm,) = (item for item in typed_module(spec).modules() if isinstance(item, Float32Norm))
    assert {item.dtype for item in norm.norm.parameters()} == {torch.float32}
    engine, image = EagerBackend().load(spec), torch.rand(1, 3, 20, 20)
    assert engine.wants == "images"
    assert (engine.run(image) - reference(spec.generator, image)).abs().max() < 0.02


def test_weights_beyond_the_precision_are_reported():
    net = nn.Sequential(nn.Conv2d(3, 3, 1)).eval()
    net[0].weight.data.fill_(1e6)
    with pytest.raises(BackendError, match=r"'test' cannot run in fp16: '0\.weight' .* take bf16 or fp32"):
        typed_module(EngineSpec(net, SAME_SIZE, "fp16"))


def tf32():
    return [item.fp32_precision for item in (torch.backends.cudnn.conv, torch.backends.cuda.matmul)]


def test_fp32_on_a_gpu_is_not_tf32():
    before = tf32()
    assert "tf32" in before  # torch's default for convolutions
    with exact_fp32("cuda:0", "fp32"):
        assert "tf32" not in tf32()
    assert tf32() == before
    assert torch.backends.cudnn.allow_tf32
    with suppress(MemoryError), exact_fp32("cuda", "fp32"):
        raise MemoryError
    assert tf32() == before
    for device, precision in (("cpu", "fp32"), ("cuda", "bf16")):
        with exact_fp32(device, precision):
            assert tf32() == before


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU")
def test_fp32_on_a_gpu_is_the_reference_to_rounding():
    net = small_srgan(**OPTIONS)
    with EagerBackend().load(EngineSpec(net, facts("srgan", OPTIONS), "fp32", "cuda")) as engine:
        image = torch.rand(2, 3, 37, 29)
        parity = compare(engine.run(image), reference(net, image))
    assert parity.psnr > 100
    assert parity.max_abs < 1e-5


@pytest.mark.parametrize("kind", [ModuleEngine, StreamingEngine])
def test_engines_take_the_cores_that_the_process_may_use(kind, monkeypatch):
    seen = []
    net, given = small_srgan(**OPTIONS), facts("srgan", OPTIONS)
    monkeypatch.setattr(threads, "physical_cores", lambda: 1)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 6)
    monkeypatch.setattr(torch, "set_num_threads", seen.append)
    for asked in (None, 3):
        spec = EngineSpec(net, given, threads=asked)
        engine = EagerBackend().load(spec) if kind is StreamingEngine else ModuleEngine("eager", spec, net)
        assert isinstance(engine, kind)
        engine.run(torch.rand(1, 3, 5, 5))
    assert seen == [1, 6, 3, 6]
