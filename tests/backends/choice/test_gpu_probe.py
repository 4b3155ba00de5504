"""What is measured for a GPU: a batch large enough to keep it busy, and calls after the first ones."""

import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from gankit.backends.base import Backend, Engine, EngineSpec
from gankit.backends.choice import benchmark, probe
from gankit.backends.choice.benchmark import Benchmark
from gankit.backends.choice.candidates import Candidate
from gankit.backends.choice.parity import reference
from gankit.backends.choice.probe import Probe
from gankit.models import facts

OPTIONS = {"scale": 2, "channels": 8, "blocks": 1}
MODULE = nn.Sequential(nn.Conv2d(3, 12, 3, padding=1), nn.PixelShuffle(2)).requires_grad_(False)  # soon computed
SPEC = EngineSpec(MODULE, facts("srgan", OPTIONS), device="cuda", kernels=False)


@pytest.fixture
def gpu(monkeypatch):
    """A GPU with so many free bytes, on which nothing can be computed."""

    def pretend(free):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(probe, "free_memory", lambda device: free)

    return pretend


def test_the_batch_keeps_a_gpu_busy(gpu):
    gpu(40 << 30)
    made = Probe.of(SPEC)
    (batch,) = made.timed_inputs
    assert (batch.shape, batch.dtype) == ((4, 3, 192, 256), torch.uint8)
    assert batch.is_contiguous(memory_format=torch.channels_last)
    assert made.megapixels == pytest.approx(4 * 192 * 256 / 1e6)
    first = batch[0]
    for other, sides in zip(batch[1:], ((2,), (1,), (1, 2)), strict=True):
        assert torch.equal(other, first.flip(sides))
    # the references are those of the CPU where the GPU does not compute them
    torch.testing.assert_close(made.timed.wanted, reference(SPEC.generator, made.timed.inputs[0]), rtol=0, atol=1e-6)


def test_a_small_gpu_measures_one_tile(gpu):
    gpu(1 << 30)
    assert Probe.of(SPEC).timed.inputs[0].shape == (1, 3, 192, 256)
    assert Probe.of(SPEC, (160, 192)).timed.inputs[0].shape == (1, 3, 160, 192)
    assert Probe.of(replace(SPEC, device="cpu")).timed.inputs[0].shape == (1, 3, 96, 128)


class Slow(Engine):
    """Takes ten seconds for the first four calls of a batch of bytes, as kernels that compile do."""

    def __init__(self, spec, clock):
        super().__init__("slow", spec)
        self.spec, self.clock, self.calls = spec, clock, 0

    def run(self, batch):
        if batch.dtype == torch.float32:
            return reference(self.spec.generator, batch)
        self.calls += 1
        self.clock[0] += 10.0 if self.calls <= 4 else 0.125
        return (reference(self.spec.generator, batch.float() / 255).clamp(0, 1) * 255).round().to(torch.uint8)


def test_calls_that_compile_are_not_timed(gpu, monkeypatch):
    gpu(1 << 30)
    clock = [0.0]
    monkeypatch.setattr(benchmark.time, "perf_counter", lambda: clock[0])

    class SlowBackend(Backend):
        name, precisions = "slow", {"cuda": ("fp32",), "cpu": ("fp32",)}

        def missing(self, spec):
            return None

        def open(self, spec):
            return Slow(spec, clock)

    measured = Benchmark(SPEC)
    measured.run([Candidate(SlowBackend(), SPEC)], budget=math.inf)
    assert measured.best is not None
    assert measured.best[1].megapixels_per_second == pytest.approx(192 * 256 / 1e6 / 0.125)
