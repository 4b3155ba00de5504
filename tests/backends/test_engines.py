"""Every installed backend runs the same images, through every kind of pixel."""

import subprocess
import sys

import pytest
import torch

from gankit import backends
from gankit.backends.base import EngineSpec
from gankit.backends.choice.parity import compare, reference
from gankit.errors import BackendError, UsageError
from gankit.models import facts
from tests.conftest import ROOT
from tests.networks import small_srgan

NAMES = ["eager", "winograd", "onnxruntime", "openvino", pytest.param("compile", marks=pytest.mark.slow)]
OPTIONS = {"scale": 4, "channels": 16, "blocks": 2}


@pytest.fixture(scope="module")
def net():
    return small_srgan(**OPTIONS)


@pytest.fixture(scope="module")
def engines(net):
    """Engines by name and precision, made once."""
    made = {}

    def get(name, precision="fp32"):
        backend = backends.get(name)
        spec = EngineSpec(net, facts("srgan", OPTIONS), precision)
        if (why := backend.supports(spec)) is not None:
            pytest.skip(f"{name}: {why}")
        if (name, precision) not in made:
            made[name, precision] = backend.load(spec)
        return made[name, precision]

    yield get
    for engine in made.values():
        engine.close()


def image(height=37, width=29, count=1):
    torch.manual_seed(1)
    pixels = torch.randint(0, 256, (count, height // 4 + 1, width // 4 + 1, 3), dtype=torch.uint8)
    smooth = torch.nn.functional.interpolate(pixels.permute(0, 3, 1, 2).float(), size=(height, width), mode="bicubic")
    return smooth.clamp(0, 255).round().to(torch.uint8).contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("name", NAMES)
def test_fp32_is_the_reference_to_rounding(name, engines, net):
    x = image(count=2).float() / 255
    parity = compare(engines(name).run(x), reference(net, x))
    assert parity.psnr > 100
    assert parity.max_abs < 1e-5


@pytest.mark.parametrize("name", ["eager", "openvino", pytest.param("compile", marks=pytest.mark.slow)])
def test_bf16_passes_the_gate_and_is_not_fp32(name, engines, net):
    x = image().float() / 255
    parity = compare(engines(name, "bf16").run(x), reference(net, x))
    assert 45 < parity.psnr < 90


@pytest.mark.parametrize(("dtype", "full"), [(torch.uint8, 255), (torch.uint16, 65535)])
@pytest.mark.parametrize("name", NAMES)
def test_integers_are_the_reference_rounded(name, dtype, full, engines, net):
    x = image()
    x = (x.to(torch.int32) * (full // 255)).to(dtype).contiguous(memory_format=torch.channels_last)
    result = engines(name).run(x)
    expected = (reference(net, x.float() / full).double().clamp(0, 1) * full).round()
    assert result.dtype == dtype
    difference = (result.double() - expected).abs()
    assert difference.max() <= 1  # a value next to a half may fall either way
    assert (difference > 0).double().mean() < (0.01 if full == 255 else 0.35)


@pytest.mark.parametrize("name", NAMES)
def test_float_is_not_clamped(name, engines, net):
    x = torch.full((1, 3, 9, 9), 40.0)
    assert (engines(name).run(x) - reference(net, x)).abs().max() < 1e-3
    assert reference(net, x).abs().max() > 1  # else it proves nothing


@pytest.mark.parametrize("name", NAMES)
def test_any_size_and_batch_through_one_engine(name, engines, net):
    for height, width, count in ((8, 8, 1), (21, 50, 3), (2, 3, 1)):
        x = image(height, width, count).float() / 255
        torch.testing.assert_close(engines(name).run(x), reference(net, x), rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_channels_last_comes_out_as_it_went_in(name, engines):
    result = engines(name).run(image())
    assert result.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "batch", [torch.zeros(1, 1, 8, 8), torch.zeros(3, 8, 8), torch.zeros(1, 3, 8, 8, dtype=torch.float64)]
)
def test_wrong_batches_are_refused(name, batch, engines):
    with pytest.raises(ValueError, match="takes"):
        engines(name).run(batch)


@pytest.mark.parametrize("name", ["eager", "onnxruntime", "openvino"])
def test_threads_are_given_back(name, net):
    before = torch.get_num_threads()
    with backends.get(name).load(EngineSpec(net, facts("srgan", OPTIONS), threads=1)) as engine:
        engine.run(image(8, 8))
    assert torch.get_num_threads() == before


SIGNAL_AFTER_ENGINES = """
import os, signal
from gankit import backends
from gankit.backends.base import EngineSpec
from gankit.models import facts
from tests.networks import small_srgan

signal.signal(signal.SIGUSR1, lambda *_: print("handled"))
options = {"scale": 4, "channels": 16, "blocks": 2}
engines = [backends.get("openvino").load(EngineSpec(small_srgan(**options), facts("srgan", options))) for _ in range(2)]
import torch
for engine in engines:
    engine.run(torch.zeros(1, 3, 8, 8, dtype=torch.uint8))
while engines:  # the first made is the first to go
    engines.pop(0).close()
del engine
os.kill(os.getpid(), signal.SIGUSR1)
"""


@pytest.mark.slow
def test_signals_are_handled_after_openvino_engines_are_gone():
    pytest.importorskip("openvino")
    done = subprocess.run([sys.executable, "-c", SIGNAL_AFTER_ENGINES], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "handled\n"), done.stderr


def test_eager_streams_images(engines):
    assert engines("eager").wants == "images"


def test_precisions_that_a_backend_has_not(net):
    with pytest.raises(BackendError, match=r"onnxruntime.*does not run bf16.*offers fp32"):
        backends.get("onnxruntime").load(EngineSpec(net, facts("srgan", OPTIONS), "bf16"))
    with pytest.raises(BackendError, match=r"eager.*does not run fp16 on cpu"):
        backends.get("eager").load(EngineSpec(net, facts("srgan", OPTIONS), "fp16"))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_no_gpu_is_said(net):
    with pytest.raises(BackendError, match="finds no CUDA GPU; use --device cpu"):
        backends.get("eager").load(EngineSpec(net, facts("srgan", OPTIONS), device="cuda"))


def test_unknown_backend_suggests_the_nearest():
    with pytest.raises(UsageError, match="did you mean 'openvino'"):
        backends.get("openvin")


@pytest.mark.parametrize("name", ["eager", "onnxruntime", "openvino"])
def test_several_images_in_one_call_are_each_alone(name, engines, net):
    """With two threads, two images run at once; a third one runs on both."""
    engines(name)  # skips what is not installed
    images = torch.cat([image(), image().flip(2), image().flip(3)]).contiguous(memory_format=torch.channels_last)
    with backends.get(name).load(EngineSpec(net, facts("srgan", OPTIONS), threads=2)) as engine:
        assert engine.at_once == 2
        alone = torch.cat([engine.run(one) for one in images.split(1)])
        for count in (1, 2, 3):
            difference = (engine.run(images[:count]).int() - alone[:count].int()).abs()
            assert difference.max() <= 1  # other kernels may round another way
            assert (difference > 0).float().mean() < 1e-3
        floats = images[:2].float() / 255
        torch.testing.assert_close(engine.run(floats)[1:], engine.run(floats[1:]), rtol=0, atol=1e-5)


def test_openvino_says_how_much_memory_its_layers_take(engines):
    """Beside the whole of what is read and written for each pixel: 16 channels four times as large, twice."""
    found = engines("openvino").pixel_bytes
    largest = 4 * 64 * 4  # the input of the sunk convolution
    assert largest < found < 3 * largest
    assert engines("eager").pixel_bytes is None
