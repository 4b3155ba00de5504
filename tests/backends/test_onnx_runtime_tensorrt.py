"""ONNX Runtime's TensorRT provider, on a session with the signatures of the real one that computes on the CPU."""

import ctypes
import shutil
import types
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from gankit import backends
from gankit.backends import onnx_runtime_cuda
from gankit.backends.base import EngineSpec, Shapes
from gankit.backends.cached import cached_files
from gankit.backends.choice.parity import reference
from gankit.backends.onnx_runtime_tensorrt import OnnxRuntimeTensorRTBackend
from gankit.backends.onnx_runtime_tensorrt_engine import PROVIDER
from gankit.errors import BackendError
from gankit.models import build, facts
from tests.backends import test_onnx_runtime_cuda as cuda
from tests.backends.tensorrt_fake import STREAM, FakeGpu
from tests.networks import small_srgan

onnxruntime = pytest.importorskip("onnxruntime")
OPTIONS = {"scale": 2, "channels": 8, "blocks": 1}
# Names of options in libonnxruntime_providers_tensorrt.so of onnxruntime-gpu 1.31.1, as `strings` prints them. Others
# raise an exception there.
KNOWN = {
    "device_id",
    "has_user_compute_stream",
    "user_compute_stream",
    "trt_auxiliary_streams",
    "trt_bf16_enable",
    "trt_builder_optimization_level",
    "trt_context_memory_sharing_enable",
    "trt_cuda_graph_enable",
    "trt_detailed_build_log",
    "trt_engine_cache_enable",
    "trt_engine_cache_path",
    "trt_engine_cache_prefix",
    "trt_engine_hw_compatible",
    "trt_force_timing_cache",
    "trt_fp16_enable",
    "trt_layer_norm_fp32_fallback",
    "trt_max_workspace_size",
    "trt_min_subgraph_size",
    "trt_profile_max_shapes",
    "trt_profile_min_shapes",
    "trt_profile_opt_shapes",
    "trt_timing_cache_enable",
    "trt_timing_cache_path",
}


class Session(cuda.Session):
    """An InferenceSession with the TensorRT provider, which caches an engine and runs no shape beyond its profile."""

    chosen = (PROVIDER, "CUDAExecutionProvider", "CPUExecutionProvider")

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        assert self.provider == PROVIDER
        assert [name for name, _ in self.others] == ["CUDAExecutionProvider"]
        assert set(self.options) <= KNOWN
        assert all(type(value) is str for value in self.options.values())
        folder = Path(self.options["trt_engine_cache_path"])
        engine = folder / f"{self.options['trt_engine_cache_prefix']}_7_0_0_sm90.engine"
        self.built = not engine.exists()
        if self.built:
            engine.write_bytes(b"engine")
        elif engine.read_bytes() != b"engine":
            raise RuntimeError("TensorRT EP could not deserialize engine")

    def _ranges(self, which):
        shapes = (item.split(":") for item in self.options[f"trt_profile_{which}_shapes"].split(","))
        return {name: [int(side) for side in shape.split("x")] for name, shape in shapes}

    def run_with_iobinding(self, binding):
        low, high = self._ranges("min"), self._ranges("max")
        for name, shape in binding.shapes.items():
            sides = zip(low[name], shape, high[name], strict=True)
            assert all(least <= side <= most for least, side, most in sides), (name, shape)
        super().run_with_iobinding(binding)


class Binding(cuda.Binding):
    """Keeps the shapes of the inputs."""

    def __init__(self, session):
        super().__init__(session)
        self.shapes = {}

    def bind_input(self, name, device_type, device_id, element_type, shape, address):
        self.shapes[name] = shape
        super().bind_input(name, device_type, device_id, element_type, shape, address)


@pytest.fixture(scope="module")
def exports(tmp_path_factory):
    """ONNX files that earlier tests wrote: exporting one takes seconds."""
    return tmp_path_factory.mktemp("onnx")


@pytest.fixture
def spec(monkeypatch, tmp_path, exports):
    cached = shutil.copytree(exports, tmp_path / "cache" / "onnx")
    monkeypatch.setenv("GANKIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(cuda, "Binding", Binding)
    monkeypatch.setattr(cuda.Session, "made", [])
    monkeypatch.setattr(onnxruntime, "InferenceSession", Session)
    monkeypatch.setattr("gankit_export.gpu.Gpu", FakeGpu)
    monkeypatch.setattr(OnnxRuntimeTensorRTBackend, "missing", lambda self, spec: None)
    yield EngineSpec(small_srgan(**OPTIONS), facts("srgan", OPTIONS), "fp32", "cuda")
    shutil.copytree(cached, exports, dirs_exist_ok=True)


def load(spec):
    return backends.get("onnxruntime-tensorrt").load(spec)


def close_to(engine, net, image):
    torch.testing.assert_close(engine.run(image), reference(net, image), rtol=0, atol=1e-5)


def test_images_run_within_the_profile(spec):
    said = []
    with load(replace(spec, notify=said.append)) as engine:
        for shape in ((1, 3, 20, 31), (3, 3, 9, 8)):  # more images than the profile's batch of 1 are split
            close_to(engine, spec.generator, torch.rand(shape))
        assert engine.tile is not None
    (session,) = cuda.Session.made
    assert session.options["user_compute_stream"] == str(STREAM)
    assert session.options["trt_cuda_graph_enable"] == "0"
    assert len(said) == 1
    assert "this takes minutes once" in said[0]


def test_an_engine_is_built_once_and_verified(spec):
    for tampered in (False, False, True):
        if tampered:
            (path,) = (item.path for item in cached_files() if item.kind == "onnxruntime-tensorrt")
            path.write_bytes(b"changed")
            assert [item.problem() for item in cached_files() if item.path == path] != [None]
        with load(spec) as engine:
            close_to(engine, spec.generator, torch.rand(1, 3, 8, 8))
    assert [session.built for session in cuda.Session.made] == [True, False, True]
    (item,) = (item for item in cached_files() if item.kind == "onnxruntime-tensorrt")
    assert item.problem() is None


@pytest.mark.slow
def test_other_weights_get_an_engine_of_their_own(spec):
    other = small_srgan(**OPTIONS)
    with torch.no_grad():
        next(other.parameters()).add_(0.1)
    for net in (spec.generator, other):
        with load(replace(spec, module=net)) as engine:
            close_to(engine, net, torch.rand(1, 3, 8, 8))
    assert [session.built for session in cuda.Session.made] == [True, True]


@pytest.mark.slow
def test_a_whole_image_beyond_the_profile_gets_a_larger_one(spec):
    whole = replace(spec, facts=replace(spec.facts, tileable=False))
    with load(whole) as engine:
        assert engine.tile is None
        close_to(engine, spec.generator, torch.rand(1, 3, 8, 300))
    assert [session._ranges("max")["input"][2:] for session in cuda.Session.made] == [[256, 256], [512, 512]]


def test_a_static_tile_is_recorded_as_a_graph(spec):
    with load(replace(spec, shapes=Shapes(batch=2, tile=(16, 24)))) as engine:
        close_to(engine, spec.generator, torch.rand(2, 3, 16, 24))
        close_to(engine, spec.generator, torch.rand(2, 3, 16, 24))
    (session,) = cuda.Session.made
    assert session.options["trt_cuda_graph_enable"] == "1"
    assert session.others[0][1]["enable_cuda_graph"] == "0"
    assert len(session.bindings) == 1
    assert session.options["trt_profile_min_shapes"] == "input:2x3x16x24" == session.options["trt_profile_max_shapes"]


@pytest.mark.slow
def test_latents_and_classes(spec):
    options = {"latent": 8, "classes": 4}
    net = build("cgan", options).eval().requires_grad_(False)
    given = torch.randn(5, 8), torch.arange(5) % 4
    with load(replace(spec, module=net, facts=facts("cgan", options))) as engine:
        result = engine.run(*given)
    torch.testing.assert_close(result, (reference(net, *given) + 1) / 2, rtol=0, atol=1e-5)


def test_an_engine_that_fails_its_proof_is_refused_and_not_kept(spec, monkeypatch):
    real = cuda.Session.run_with_iobinding

    def wrong(self, binding):  # a provider that computes something else
        real(self, binding)
        ctypes.memset(binding.addresses[-1], 0, 4 * 3 * 16 * 16)

    monkeypatch.setattr(Session, "run_with_iobinding", wrong)
    with pytest.raises(BackendError, match=r"the onnxruntime-tensorrt engine of 'srgan' in fp32 reaches .* below"):
        load(spec)
    monkeypatch.setattr(Session, "run_with_iobinding", real)
    with load(spec) as engine:
        close_to(engine, spec.generator, torch.rand(1, 3, 8, 8))
    assert [session.built for session in cuda.Session.made] == [True, True]


def test_another_provider_is_refused(spec, monkeypatch):
    monkeypatch.setattr(Session, "chosen", ["CUDAExecutionProvider"])
    with pytest.raises(BackendError, match=f"chose CUDAExecutionProvider, not {PROVIDER}"):
        load(spec)


@pytest.mark.parametrize(
    ("version", "said"), [("11.4.0.106", "needs TensorRT 10, not 11.4.0.106: pip install"), ("10.16.1.11", None)]
)
def test_tensorrt_10_is_needed(version, said, monkeypatch):
    trt = types.SimpleNamespace(__version__=version, Builder=object)
    monkeypatch.setattr("gankit_export.tensorrt.library.library", lambda: trt)
    monkeypatch.setattr("gankit.backends.onnx_runtime_tensorrt.cuda_available", lambda: True)
    monkeypatch.setattr(onnx_runtime_cuda, "missing", lambda: None)
    monkeypatch.setattr(onnx_runtime_cuda, "why_not", lambda provider: None)
    found = OnnxRuntimeTensorRTBackend().missing(None)
    assert found is None if said is None else said in found
