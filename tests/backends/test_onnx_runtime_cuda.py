"""ONNX Runtime's CUDA provider, on a session that keeps to the signatures of the real one and computes on the CPU."""

import ctypes
import inspect
import types
from dataclasses import replace
from typing import ClassVar

import numpy as np
import pytest
import torch

from gankit import backends
from gankit.backends import onnx_runtime_cuda
from gankit.backends.base import EngineMemoryError, EngineSpec, Shapes
from gankit.backends.choice.parity import compare, reference
from gankit.backends.onnx_runtime_cuda import OnnxRuntimeCudaEngine, provider_options
from gankit.errors import BackendError, NotFiniteError
from gankit.models import build, facts
from tests.backends.tensorrt_fake import STREAM, FakeGpu
from tests.networks import small_srgan

onnxruntime = pytest.importorskip("onnxruntime")
REAL = onnxruntime.InferenceSession
OPTIONS = {"scale": 2, "channels": 8, "blocks": 1}


class Binding:
    """An IOBinding of a session on the CPU, called as one on a GPU."""

    def __init__(self, session):
        self.real = onnxruntime.IOBinding(session)
        self.addresses = []

    def bind_input(self, *args, **kwargs):
        self._bind("bind_input", args, kwargs)

    def bind_output(self, *args, **kwargs):
        self._bind("bind_output", args, kwargs)

    def _bind(self, name, args, kwargs):
        bound = inspect.signature(getattr(onnxruntime.IOBinding, name)).bind(self.real, *args, **kwargs)
        given = {key: value for key, value in bound.arguments.items() if key != "self"}
        assert given["device_type"] == "cuda"
        assert given["buffer_ptr"], "no memory of torch"
        self.addresses.append(given["buffer_ptr"])
        getattr(self.real, name)(**{**given, "device_type": "cpu"})


class Session:
    """An InferenceSession with the CUDA provider."""

    made: ClassVar[list] = []
    chosen: ClassVar[list] = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    error = None

    def __init__(self, *args, **kwargs):
        bound = inspect.signature(REAL.__init__).bind(self, *args, **kwargs).arguments
        options = bound["sess_options"]
        assert options.get_session_config_entry("session.disable_cpu_ep_fallback") == "1"
        (self.provider, self.options), *self.others = bound["providers"]
        if self.error is not None:
            raise self.error
        self.real = REAL(bound["path_or_bytes"], providers=["CPUExecutionProvider"])
        self.fallback, self.bindings = True, []
        Session.made.append(self)

    def disable_fallback(self):
        self.fallback = False

    def get_providers(self):
        return self.chosen

    def get_inputs(self):
        return self.real.get_inputs()

    def get_outputs(self):
        return self.real.get_outputs()

    def io_binding(self):
        self.bindings.append(Binding(self.real))
        return self.bindings[-1]

    def run_with_iobinding(self, binding):
        assert not self.fallback
        self.real.run_with_iobinding(binding.real)


@pytest.fixture
def spec(monkeypatch):
    monkeypatch.setattr(Session, "made", [])
    monkeypatch.setattr(onnxruntime, "InferenceSession", Session)
    monkeypatch.setattr("gankit_export.gpu.Gpu", FakeGpu)
    monkeypatch.setattr(onnx_runtime_cuda, "missing", lambda: None)
    return EngineSpec(small_srgan(**OPTIONS), facts("srgan", OPTIONS), "fp32", "cuda")


def load(spec):
    return backends.get("onnxruntime").load(spec)


@pytest.mark.parametrize(("precision", "least"), [("fp32", 100), ("fp16", 50)])
def test_images_run_on_the_memory_of_torch(precision, least, spec):
    with load(replace(spec, precision=precision)) as engine:
        for shape in ((1, 3, 20, 31), (3, 3, 9, 8)):
            image = torch.rand(shape)
            assert compare(engine.run(image), reference(spec.generator, image)).psnr > least
        pixels = torch.randint(0, 256, (1, 3, 8, 9), dtype=torch.uint8)
        wanted = (reference(spec.generator, pixels.float() / 255).clamp(0, 1) * 255).round()
        result = engine.run(pixels)
    assert (result.float() - wanted).abs().max() <= 1
    assert result.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.slow
def test_latents_and_classes(spec):
    options = {"latent": 8, "classes": 4}
    net = build("cgan", options).eval().requires_grad_(False)
    given = torch.randn(5, 8), torch.arange(5) % 4
    with load(replace(spec, module=net, facts=facts("cgan", options))) as engine:
        result = engine.run(*given)
    torch.testing.assert_close(result, (reference(net, *given) + 1) / 2, rtol=0, atol=1e-5)


def test_static_shapes_are_tuned_and_keep_their_addresses(spec):
    spec = replace(spec, shapes=Shapes(batch=2, tile=(16, 24)))
    with load(spec) as engine:
        for _ in range(3):
            image = torch.rand(2, 3, 16, 24)
            torch.testing.assert_close(engine.run(image), reference(spec.generator, image), rtol=0, atol=1e-5)
        (session,) = Session.made
        assert len(session.bindings) == 1
        assert session.options["enable_cuda_graph"] == "1"
        assert session.options["cudnn_conv_algo_search"] == "EXHAUSTIVE"
        with pytest.raises(BackendError, match=r"made for inputs of \(2, 3, 16, 24\), not \(1, 3, 16, 24\)"):
            engine.run(torch.rand(1, 3, 16, 24))


def test_the_options_of_the_provider(spec):
    found = provider_options(spec, FakeGpu("cuda"))
    assert found["user_compute_stream"] == str(STREAM)
    assert found["cudnn_conv_algo_search"] == "HEURISTIC"
    assert found["enable_cuda_graph"] == "0"
    assert found["use_tf32"] == "0"
    assert all(type(value) is str for value in found.values())


def test_another_provider_is_refused(spec, monkeypatch):
    monkeypatch.setattr(Session, "chosen", ["CPUExecutionProvider"])
    with pytest.raises(BackendError, match="chose CPUExecutionProvider, not CUDAExecutionProvider"):
        load(spec)


def test_layers_of_the_cpu_are_refused(spec, monkeypatch):
    text = "nodes are assigned to the default CPU EP, but fallback to CPU EP has been explicitly disabled by the user."
    monkeypatch.setattr(Session, "error", RuntimeError(text))
    with pytest.raises(BackendError, match="'srgan' has layers that ONNX Runtime runs on the CPU only"):
        load(spec)


def test_memory_that_runs_out(spec, monkeypatch):
    def fail(self, binding):
        raise RuntimeError("BFCArena: Failed to allocate memory for requested buffer of size 1")

    monkeypatch.setattr(Session, "run_with_iobinding", fail)
    with load(spec) as engine, pytest.raises(EngineMemoryError):
        engine.run(torch.rand(1, 3, 8, 8))


def test_values_beyond_fp16_are_no_image(spec, monkeypatch):
    with load(replace(spec, precision="fp16")) as engine:
        monkeypatch.setattr(OnnxRuntimeCudaEngine, "_run", lambda self, values: torch.full((1, 3, 16, 16), np.nan))
        with pytest.raises(NotFiniteError):
            engine.run(torch.zeros(1, 3, 8, 8, dtype=torch.uint8))
        assert not engine.run(torch.zeros(1, 3, 8, 8)).isfinite().any()


@pytest.fixture
def gpu(monkeypatch):
    there = types.SimpleNamespace(cuda=types.SimpleNamespace(is_available=lambda: True), version=torch.version)
    monkeypatch.setattr(onnx_runtime_cuda, "torch", there)
    onnx_runtime_cuda._unloadable.cache_clear()


def test_the_package_for_cpus_is_said(gpu):
    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("onnxruntime-gpu is installed")
    assert "has no CUDA provider: pip uninstall -y onnxruntime" in onnx_runtime_cuda.missing()


def test_both_packages_are_said(gpu, monkeypatch):
    monkeypatch.setattr(onnx_runtime_cuda, "installed_version", lambda package: "1.31.1")
    assert "are both installed and overwrite each other" in onnx_runtime_cuda.missing()


def test_a_provider_that_does_not_load_gives_its_reason(gpu, monkeypatch, tmp_path):
    (tmp_path / "capi").mkdir()
    (tmp_path / "capi" / "libonnxruntime_providers_cuda.so").write_bytes(b"\x7fELF, cut short")
    spec = types.SimpleNamespace(origin=str(tmp_path / "__init__.py"))
    monkeypatch.setattr(onnx_runtime_cuda, "find_spec", lambda name: spec)
    monkeypatch.setattr(onnx_runtime_cuda.platform, "system", lambda: "Linux")
    with pytest.raises(OSError) as caught:
        ctypes.CDLL(str(tmp_path / "capi" / "libonnxruntime_providers_cuda.so"))
    found = onnx_runtime_cuda.missing()
    assert f"does not load ({caught.value})" in found
    assert "CUDA 13" in found


def test_without_a_gpu(monkeypatch):
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    assert "finds no CUDA GPU" in onnx_runtime_cuda.missing()
