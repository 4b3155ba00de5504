"""The engine for GPUs on a pretended GPU that does everything as late as it may: order, lifetimes, graphs, errors."""

import gc
import itertools
import threading

import pytest
import torch
from fake_gpu import FakeCuda
from torch import nn

from gankit.backends.base import EngineSpec
from gankit.backends.cuda.engine import CudaEngine
from gankit.backends.modules import ModuleEngine
from gankit.errors import NotFiniteError
from gankit.models import Facts
from tests.variants import others_slow

ORDERS = ("late", "early", 1, 2, 3)
FACTS = Facts(name="test", task="upscale", scale=2, value_range=(-1, 1))
LATENT = Facts(name="test", task="generate", latent=6, classes=3, output_size=(4, 4), channels=1, value_range=(-1, 1))


class Net(nn.Module):
    """Not symmetric in any axis, so that swapped or stale pixels show."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(nn.Conv2d(3, 12, 3, padding=1), nn.PixelShuffle(2))

    def forward(self, x):
        return self.layers(x)


class FromLatents(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.embed, self.dense = nn.Embedding(3, 6), nn.Linear(6, 16)

    def forward(self, z, classes):
        return self.dense(z + self.embed(classes)).tanh().view(-1, 1, 4, 4)


def spec(module=None, facts=FACTS, **options):
    options = {"device": "cuda", "kernels": False} | options
    return EngineSpec((module or Net()).eval().requires_grad_(False), facts, **options)


def engines(gpu, given=None):
    """An engine on a pretended GPU, and the plain one."""
    given = given or spec()
    plain = EngineSpec(given.generator, given.facts, given.precision, "cpu", kernels=False)
    return CudaEngine("eager", given, given.generator, cuda=gpu), ModuleEngine("eager", plain, given.generator)


def image(index, shape=(2, 3, 8, 10), dtype=torch.uint8):
    generator = torch.Generator().manual_seed(index)
    if dtype == torch.float32:
        return torch.rand(shape, generator=generator)
    full = torch.randint(0, torch.iinfo(dtype).max, (shape[0], *shape[2:], shape[1]), generator=generator)
    return full.to(dtype).permute(0, 3, 1, 2)


def varied(count):
    shapes = [(1, 3, 5, 7), (2, 3, 8, 10), (4, 3, 1, 1), (1, 3, 16, 3)]
    dtypes = [torch.uint8, torch.uint16, torch.float32]
    return [image(k, *pair) for k, pair in zip(range(count), itertools.cycle(itertools.product(shapes, dtypes)))]


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("kernels", [False, True])
def test_calls_that_overlap_do_not_disturb_each_other(order, kernels):
    gpu = FakeCuda(order)
    engine, plain = engines(gpu, spec(kernels=kernels))
    batches = varied(30) + [image(k) for k in range(30, 40)]
    pending = [engine.submit(batch) for batch in batches]
    for call, batch in zip(pending, batches, strict=True):
        result, wanted = call.result(), plain.run(batch)
        assert result.dtype == wanted.dtype
        # layouts of 1×1 pixels are ambiguous, and select another convolution of floats
        torch.testing.assert_close(result.double(), wanted.double(), rtol=0, atol=1e-6)
        assert result.is_contiguous(memory_format=torch.channels_last)
    assert gpu.faults == []


@pytest.mark.parametrize("order", ORDERS)
def test_a_result_stays_as_it_is_for_as_long_as_somebody_has_it(order):
    gpu = FakeCuda(order)
    engine, plain = engines(gpu)
    batches = [image(k) for k in range(12)]  # alike, so that the later ones come from a graph
    results = [engine.run(batch)[:1] for batch in batches]
    arrays = [engine.run(batch).permute(0, 2, 3, 1).numpy() for batch in batches]
    assert gpu.replays > 10
    for batch, result, array in zip(batches, results, arrays, strict=True):
        wanted = plain.run(batch)
        assert torch.equal(result, wanted[:1])
        assert (array == wanted.permute(0, 2, 3, 1).numpy()).all()
    results[0] += 1  # outside of inference mode
    assert gpu.faults == []


@pytest.mark.parametrize("order", others_slow(ORDERS))
def test_a_call_may_be_forgotten(order):
    gpu = FakeCuda(order)
    engine, plain = engines(gpu)
    for k in range(8):
        engine.submit(image(k))
    gc.collect()
    assert torch.equal(engine.run(image(9)), plain.run(image(9)))
    engine.close()
    assert gpu.faults == []
    del engine
    gc.collect()
    assert gpu.pinned.used == 0


@pytest.mark.parametrize("order", ORDERS)
def test_a_result_that_nobody_has_takes_no_pinned_memory(order):
    gpu = FakeCuda(order)
    engine, _ = engines(gpu)
    results = [engine.run(image(k)) for k in range(5)]
    assert gpu.pinned.used > 0
    del results
    assert gpu.pinned.used == 0


def test_the_processor_waits_only_for_results():
    gpu = FakeCuda("late")
    engine, _ = engines(gpu)
    first, second = engine.submit(image(0)), engine.submit(image(1))
    assert sum(gpu.ran.values()) == 0
    first.result()
    assert gpu.ran["out"] < len(gpu.queues["out"])
    second.result()
    assert engine.depth == 2


def test_pinned_tensors_of_the_caller_are_not_copied_first():
    gpu = FakeCuda("late")
    engine, plain = engines(gpu)
    batch = image(0)
    gpu.pinned_by_caller.add(batch.data_ptr())
    call = engine.submit(batch)
    batch.fill_(0)  # so that it shows who reads it when
    assert torch.equal(call.result(), plain.run(batch))


@pytest.mark.parametrize("limit", [0, 4000, 1 << 20])
def test_results_beyond_the_limit_are_pageable(limit):
    gpu = FakeCuda("late", limit=limit)
    engine, plain = engines(gpu)
    kept = [engine.run(image(k)) for k in range(20)]
    assert gpu.pinned.used <= limit
    assert all(torch.equal(made, plain.run(image(k))) for k, made in enumerate(kept))


@pytest.mark.parametrize("order", ORDERS)
def test_latents_and_classes(order):
    gpu = FakeCuda(order)
    engine, plain = engines(gpu, spec(FromLatents(), LATENT))
    for k in range(8):
        given = torch.randn(5, 6, generator=torch.Generator().manual_seed(k)), (torch.arange(5) + k) % 3
        assert torch.equal(engine.run(*given), plain.run(*given))
    assert len(gpu.captures) == 1
    assert gpu.faults == []
    with pytest.raises(ValueError, match="latents and classes"):
        engine.run(torch.zeros(5, 6))


class Loud(nn.Module):
    """A thousand times too large for fp16 where a pixel is white."""

    def forward(self, x):
        return x * 60000 * 1000 / 60000000


@pytest.mark.parametrize("order", ORDERS)
def test_overflow_is_reported_for_the_image_that_overflows(order):
    gpu = FakeCuda(order)
    facts = Facts(name="test", task="translate", value_range=(0, 1))
    engine, _ = engines(gpu, spec(Loud(), facts, precision="fp16"))
    black, white = torch.zeros(1, 3, 4, 4, dtype=torch.uint8), torch.full((1, 3, 4, 4), 255, dtype=torch.uint8)
    for _ in range(5):
        calls = [(batch, engine.submit(batch)) for batch in (black, white, black)]
        for batch, call in calls:
            if batch is white:
                with pytest.raises(NotFiniteError, match="range of fp16"):
                    call.result()
            else:
                assert torch.equal(call.result(), black)
    assert engine.run(torch.ones(1, 3, 4, 4)).isinf().all()  # float32 shows the overflow itself
    assert gpu.replays > 5


def test_threads_may_share_an_engine_and_a_gpu():
    gpu = FakeCuda(5)
    engine, plain = engines(gpu)
    other, _ = engines(gpu, spec(precision="fp32", facts=FACTS))
    wrong = []

    def work(first, mine):
        for k in range(first, first + 12):
            call = mine.submit(image(k))
            if not torch.equal(call.result(), plain.run(image(k))):
                wrong.append(k)

    threads = [threading.Thread(target=work, args=(100 * n, (engine, other)[n % 2])) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert gpu.faults == []


class Greedy(nn.Module):
    """Runs out of memory as often as it is asked to."""

    def __init__(self):
        super().__init__()
        self.failures, self.calls = 0, 0

    def forward(self, x):
        self.calls += 1
        if self.failures:
            self.failures -= 1
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return x * 1.0


@pytest.mark.parametrize("order", ORDERS)
def test_memory_that_runs_out_costs_the_graphs_and_then_the_call(order):
    gpu, net = FakeCuda(order), Greedy()
    facts = Facts(name="test", task="translate", value_range=(0, 1))
    engine, _ = engines(gpu, spec(net, facts))
    for _ in range(4):
        engine.run(image(0))
    assert len(gpu.captures) == 1
    waiting = engine.submit(image(1))
    net.failures = 1
    other = image(2, (1, 3, 5, 5))
    assert torch.equal(engine.run(other), other)  # tried again
    assert gpu.emptied == 1
    assert torch.equal(waiting.result(), image(1))
    net.failures = 2
    with pytest.raises(torch.OutOfMemoryError):
        engine.run(other)
    for k in range(6):
        assert torch.equal(engine.run(image(k)), image(k))
    assert len(gpu.captures) == 1  # no graphs where memory is short
    assert gpu.faults == []


def test_other_errors_are_raised_at_once():
    class Broken(nn.Module):
        calls = 0

        def forward(self, x):
            Broken.calls += 1
            raise RuntimeError("shapes differ")

    engine, _ = engines(FakeCuda("late"), spec(Broken()))
    with pytest.raises(RuntimeError, match="shapes differ"):
        engine.submit(image(0))
    assert Broken.calls == 1
    with pytest.raises(ValueError, match="uint8, uint16 or float32"):
        engine.submit(torch.zeros(1, 3, 4, 4, dtype=torch.int32))
