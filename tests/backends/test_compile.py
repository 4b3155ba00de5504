"""The compile backend: which compiler, and how often it is called."""

from dataclasses import replace

import pytest
import torch

from gankit.backends import get
from gankit.backends.base import EngineSpec
from gankit.backends.choice.parity import reference
from gankit.models import facts
from tests.networks import small_srgan

OPTIONS = {"scale": 2, "channels": 8, "blocks": 1}
SPEC = EngineSpec(small_srgan(**OPTIONS), facts("srgan", OPTIONS))


def test_the_compiler_is_the_one_that_inductor_calls(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.delenv("CXX", raising=False)
    compiler = tmp_path / "clang++"
    compiler.write_text("#!/bin/sh\n")
    compiler.chmod(0o755)
    assert "needs the C++ compiler 'g++': install it" in get("compile").supports(SPEC)
    monkeypatch.setenv("CXX", "clang++")
    assert get("compile").supports(SPEC) is None


@pytest.mark.slow
def test_one_compilation_serves_all_sizes_and_batches():
    backend = get("compile")
    if (why := backend.supports(SPEC)) is not None:
        pytest.skip(why)
    net = SPEC.generator
    with backend.load(SPEC) as engine, torch.compiler.set_stance("fail_on_recompile"):
        for shape in ((1, 3, 64, 64), (1, 3, 96, 64), (3, 3, 64, 64), (2, 3, 50, 96), (1, 3, 160, 192)):
            x = torch.rand(shape).contiguous(memory_format=torch.channels_last)
            result = engine.run(x)
            torch.testing.assert_close(result, reference(net, x), rtol=0, atol=1e-5)
            assert result.is_contiguous(memory_format=torch.channels_last)
        # Not smaller: for fp32 of up to 20480 values, here 2560 pixels, torch has other convolutions.
        crop = torch.rand(1, 90, 80, 3)[:, 3:70, 5:].permute(0, 3, 1, 2)
        torch.testing.assert_close(engine.run(crop), reference(net, crop), rtol=0, atol=1e-5)
        wide = (torch.rand(2, 64, 48, 3) * 65535).to(torch.uint16).permute(0, 3, 1, 2)
        assert engine.run(wide).dtype == torch.uint16


class Unet(torch.nn.Module):
    """Wants sides that are multiples of 256, so that rounding makes a square of any small image."""

    def __init__(self):
        super().__init__()
        self.layers = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 4, 2, 1), torch.nn.ConvTranspose2d(4, 3, 4, 2, 1))

    def forward(self, x):
        return self.layers(x)


@pytest.mark.slow
def test_a_large_multiple_is_compiled_for_no_square():
    backend = get("compile")
    if (why := backend.supports(SPEC)) is not None:
        pytest.skip(why)
    net = Unet().eval().requires_grad_(False)
    spec = EngineSpec(net, replace(SPEC.facts, task="translate", scale=1, multiple=256))
    with backend.load(spec) as engine, torch.compiler.set_stance("fail_on_recompile"):
        for shape in ((1, 3, 256, 512), (1, 3, 512, 512), (1, 3, 512, 256)):
            x = torch.rand(shape)
            torch.testing.assert_close(engine.run(x), reference(net, x), rtol=0, atol=1e-5)


@pytest.mark.slow
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_two_compilations_serve_all_on_a_gpu():
    backend = get("compile")
    if (why := backend.supports(replace(SPEC, device="cuda"))) is not None:
        pytest.skip(why)
    net = small_srgan(**OPTIONS)
    engine = backend.load(EngineSpec(net, facts("srgan", OPTIONS), device="cuda"))
    with engine, torch.compiler.set_stance("fail_on_recompile"):
        for shape in ((1, 3, 64, 64), (1, 3, 96, 64), (3, 3, 64, 64), (2, 3, 50, 96)):
            x = torch.rand(shape)
            torch.testing.assert_close(engine.run(x), reference(net, x), rtol=0, atol=1e-4)
