"""The engine for GPUs on a real one, where the machine has one: the plain engine is the reference."""

import gc
import os
import subprocess
import sys
import threading

import numpy as np
import pytest
import torch
from torch import nn

import gankit
from gankit.backends import get
from gankit.backends.base import EngineMemoryError, EngineSpec
from gankit.backends.cuda.engine import CudaEngine
from gankit.backends.memory import free_memory, is_out_of_memory
from gankit.backends.modules import ModuleEngine, ready
from gankit.errors import NotFiniteError
from gankit.models import Facts, facts
from tests.networks import small_srgan

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU")

OPTIONS = {"scale": 2, "channels": 16, "blocks": 2}
PLAIN = Facts(name="test", task="translate", value_range=(0, 1))


def pair(precision="fp16", kernels=True, module=None, known=None):
    """The engine with streams and graphs, and the plain one, with the same module."""
    spec = EngineSpec(
        (module or small_srgan(**OPTIONS)).eval(), known or facts("srgan", OPTIONS), precision, "cuda", kernels=kernels
    )
    network = ready(spec)
    return CudaEngine("eager", spec, network), ModuleEngine("eager", spec, network)


def image(seed, shape=(1, 3, 40, 56), dtype=torch.uint8):
    generator = torch.Generator().manual_seed(seed)
    count, channels, height, width = shape
    if dtype == torch.float32:
        return torch.rand((count, height, width, channels), generator=generator).permute(0, 3, 1, 2)
    pixels = torch.randint(0, torch.iinfo(dtype).max + 1, (count, height, width, channels), generator=generator)
    return pixels.to(dtype).permute(0, 3, 1, 2)


def same(result, wanted):
    assert (result.shape, result.dtype) == (wanted.shape, wanted.dtype)
    assert result.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(result, wanted)


@pytest.mark.parametrize("kernels", [True, False])
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_twenty_shapes_submitted_and_alone(precision, kernels):
    engine, plain = pair(precision, kernels)
    random = np.random.default_rng(0)
    dtypes = [torch.uint8, torch.uint16, torch.float32]
    batches = [
        image(k, (int(random.integers(1, 5)), 3, *map(int, random.integers(8, 90, 2))), dtypes[k % 3])
        for k in range(20)
    ]
    wanted = [plain.run(batch) for batch in batches]
    calls = [engine.submit(batch) for batch in batches]
    for call, batch, expected in zip(calls, batches, wanted, strict=True):
        same(call.result(), expected)
        same(engine.run(batch), expected)
        same(engine.run(batch.contiguous()), expected)


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.uint16, torch.float32])
def test_repeated_shapes_run_as_graphs(precision, dtype):
    engine, plain = pair(precision)
    kept = []
    for k in range(12):
        for shape in ((1, 3, 40, 56), (3, 3, 33, 47)):
            batch = image(k, shape, dtype)
            kept.append((engine.run(batch) if k % 2 else engine.submit(batch).result(), plain.run(batch)))
    assert len(engine._graphs) == 2
    for result, wanted in kept:  # the later calls have overwritten nothing
        same(result, wanted)


def test_a_whole_generator_in_a_graph():
    """CycleGAN: reflection, InstanceNorm, transposed convolutions and Tanh."""
    from gankit import models

    options = {"channels": 16, "blocks": 2}
    torch.manual_seed(0)
    net, known = models.build("cyclegan", options).eval().requires_grad_(False), facts("cyclegan", options)
    for kernels in (True, False):
        engine, plain = pair("fp16", kernels, net, known)
        for k in range(6):
            batch = image(k, (2, 3, 64, 96))
            same(engine.run(batch), plain.run(batch))
        assert len(engine._graphs) == 1


def test_more_shapes_than_graphs():
    engine, plain = pair()
    for _ in range(2):
        for side in range(20, 27):
            for k in range(4):
                batch = image(k, (1, 3, side, 32))
                same(engine.run(batch), plain.run(batch))
    assert len(engine._graphs) == 4


def test_many_calls_in_flight_and_none_of_their_results_taken():
    engine, plain = pair()
    batches = [image(k, (4, 3, 128, 128)) for k in range(16)]
    for batch in batches:
        engine.submit(batch)
    gc.collect()
    calls = [engine.submit(batch) for batch in batches]
    for call, batch in zip(calls, batches, strict=True):
        same(call.result(), plain.run(batch))


def test_results_are_pinned_and_their_memory_is_used_again():
    engine, _ = pair()
    result = engine.run(image(0))
    assert result.is_pinned()
    used = engine._cuda.pinned.used
    array = result[0].permute(1, 2, 0).numpy()
    del result
    assert engine._cuda.pinned.used == used
    del array
    gc.collect()
    assert engine._cuda.pinned.used < used
    batch = image(1).contiguous(memory_format=torch.channels_last)
    same(engine.run(batch.pin_memory()), engine.run(batch))


def test_threads_share_engines_of_two_precisions():
    pairs = [pair("fp32"), pair("fp16")]
    batches = [image(k, (1 + k % 2, 3, 48, 40 + 8 * (k % 3))) for k in range(24)]
    wanted = [[plain.run(batch) for batch in batches] for _, plain in pairs]
    wrong = []

    def work(number):
        engine, expected = pairs[number % 2][0], wanted[number % 2]
        for _ in range(3):
            for k, batch in enumerate(batches):
                if not torch.equal(engine.submit(batch).result(), expected[k]):
                    wrong.append((number, k))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


class Loud(nn.Module):
    """A thousand times too large for fp16 where a pixel is white."""

    def forward(self, x):
        return x * 60000 * 1000 / 60000000


def test_overflow_in_fp16():
    spec = EngineSpec(Loud(), PLAIN, "fp16", "cuda")
    engine = CudaEngine("eager", spec, Loud())
    black, white = torch.zeros(1, 3, 16, 16, dtype=torch.uint8), torch.full((1, 3, 16, 16), 255, dtype=torch.uint8)
    for _ in range(5):
        calls = [engine.submit(batch) for batch in (black, white, black)]
        assert torch.equal(calls[0].result(), black)
        with pytest.raises(NotFiniteError, match="range of fp16"):
            calls[1].result()
        assert torch.equal(calls[2].result(), black)
    assert len(engine._graphs) == 1


class Waits(nn.Module):
    """Reads a value back, which no graph can."""

    def forward(self, x):
        return x * 0.5 if float(x.sum()) > 0 else x


def test_a_module_that_cannot_be_recorded():
    """In a process of its own, because a failed capture may leave its mark."""
    code = """
import torch
from gankit.backends.base import EngineSpec
from gankit.backends.cuda.engine import CudaEngine
from gankit.backends.modules import ModuleEngine
from tests.backends.test_on_gpu import PLAIN, Waits, image, pair, same
spec = EngineSpec(Waits(), PLAIN, "fp32", "cuda")
engine, plain = CudaEngine("eager", spec, Waits()), ModuleEngine("eager", spec, Waits())
for k in range(8):
    same(engine.run(image(k)), plain.run(image(k)))
assert len(engine._graphs) == 0
engine, plain = pair()  # another engine records all the same
for k in range(8):
    same(engine.run(image(k)), plain.run(image(k)))
assert len(engine._graphs) == 1
torch.cuda.empty_cache()
print("fine")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert "fine" in done.stdout, done.stderr


def test_memory_that_runs_out():
    """In a process of its own, whose memory is limited."""
    code = """
import torch
from gankit.backends.memory import is_out_of_memory
from tests.backends.test_on_gpu import image, pair, same
engine, plain = pair("fp16")
small = image(0)
wanted = plain.run(small)
for _ in range(5):
    same(engine.run(small), wanted)
assert len(engine._graphs) == 1
torch.cuda.empty_cache()
total = torch.cuda.get_device_properties(0).total_memory
torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved() + (200 << 20)) / total)
waiting = engine.submit(small)
try:
    engine.run(image(1, (8, 3, 1024, 1024)))
except RuntimeError as error:
    assert is_out_of_memory(error)
else:
    raise AssertionError("it should not fit")
same(waiting.result(), wanted)
assert len(engine._graphs) == 0
same(engine.run(small), wanted)
print("fine")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert "fine" in done.stdout, done.stderr


def test_the_pipeline_backs_off():
    """Tiles become smaller until they fit, and the image is the same."""
    code = """
import numpy as np, torch, gankit
pixels = np.random.default_rng(0).integers(0, 256, (512, 640, 3), np.uint8)
options = {"device": "cuda", "backend": "eager", "precision": "fp16"}
with gankit.Upscaler("srgan", **options) as upscaler:
    wanted = upscaler(pixels)
torch.cuda.empty_cache()
total = torch.cuda.get_device_properties(0).total_memory
torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved() + (500 << 20)) / total)
with gankit.Upscaler("srgan", **options) as upscaler:
    made = upscaler(pixels)
assert np.abs(np.asarray(made, np.int16) - np.asarray(wanted, np.int16)).max() <= 2
print("fine")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert "fine" in done.stdout, done.stderr


def test_what_torch_keeps_counts_as_free():
    before = free_memory("cuda")
    kept = torch.empty(256 << 20, dtype=torch.uint8, device="cuda")
    assert free_memory("cuda") <= before - (250 << 20)
    del kept
    assert free_memory("cuda") >= before - (32 << 20)
    with pytest.raises(torch.OutOfMemoryError) as caught:
        torch.empty(1 << 50, dtype=torch.uint8, device="cuda")
    assert is_out_of_memory(caught.value)
    assert is_out_of_memory(EngineMemoryError("no"))


def test_latents():
    options = {}
    known = facts("gan", options)
    with get("eager").load(EngineSpec(gankit.models.build("gan", options).eval(), known, "fp32", "cuda")) as engine:
        plain = ModuleEngine("eager", EngineSpec(nn.Identity(), known, "fp32", "cuda"), engine._module)
        for k in range(5):
            latents = torch.randn(16, known.latent, generator=torch.Generator().manual_seed(k))
            assert torch.equal(engine.run(latents), plain.run(latents))


@pytest.mark.filterwarnings("ignore:Please use the new API settings")  # some versions of torch
@pytest.mark.parametrize("setting", ["allow_tf32", "fp32_precision", "medium"])
def test_settings_of_the_host_program(setting):
    matmul = torch.backends.cuda.matmul
    if setting == "allow_tf32":
        matmul.allow_tf32 = True
    elif setting == "medium":
        torch.set_float32_matmul_precision("medium")
    else:
        matmul.fp32_precision = "tf32"
    try:
        with gankit.Sampler("gan", device="cuda") as sampler, gankit.Sampler("gan", device="cpu") as reference:
            difference = sampler.sample(8).astype(np.int16) - reference.sample(8).astype(np.int16)
            assert np.abs(difference).max() <= 1
    finally:
        torch.set_float32_matmul_precision("highest")
        matmul.allow_tf32 = False


def test_graphs_can_be_turned_off(monkeypatch):
    monkeypatch.setitem(os.environ, "GANKIT_CUDA_GRAPHS", "off")
    engine, plain = pair()
    for k in range(6):
        same(engine.run(image(k)), plain.run(image(k)))
    assert len(engine._graphs) == 0


def test_a_folder_is_the_same_as_its_images(tmp_path):
    """Batches, submitted calls and single images of the pipeline."""
    from PIL import Image

    source = tmp_path / "in"
    source.mkdir()
    for k in range(20):
        shape = (48, 64, 3) if k % 5 else (56, 40, 3)
        Image.fromarray(np.random.default_rng(k).integers(0, 256, shape, np.uint8)).save(source / f"{k}.png")
    options = {"device": "cuda", "backend": "eager", "precision": "fp32"}
    with gankit.Upscaler("srgan", **options) as upscaler:
        report = upscaler.run([source], tmp_path / "out")
        assert {item.status for item in report.images} == {"done"}
        for item in report.images:
            alone = upscaler(np.asarray(Image.open(item.source)))
            made = np.asarray(Image.open(item.target))
            assert np.abs(made.astype(np.int16) - np.asarray(alone, np.int16)).max() <= 1
