"""The TensorRT backend on TensorRT: the real one on a GPU, or the fake one with the real binding.

``tests/backends/test_tensorrt.py`` runs this file in a process of its own for each version, because a process can
import one binding only. ``GANKIT_TENSORRT_BINDING`` names the folder ``tensorrt_bindings`` of a wheel; without it, the
installed TensorRT and the GPU are used.
"""

import json
import os
import sys
import tempfile
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from gankit_export.tensorrt import build as building
from gankit_export.tensorrt.library import library
from PIL import Image

from gankit import backends
from gankit.backends.base import EngineSpec, Shapes
from gankit.backends.choice.parity import compare, reference
from gankit.backends.choice.select import select
from gankit.backends.tensorrt_engine import TensorRTEngine
from gankit.checkpoints import save
from gankit.cli import main
from gankit.errors import BackendError, ParityError
from gankit.models import build, facts
from gankit.options import EngineOptions
from gankit.paths import cache_folder
from tests.backends.tensorrt_fake import Contract, FakeGpu, import_binding
from tests.networks import small_srgan

OPTIONS = {"scale": 2, "channels": 8, "blocks": 1}
BINDING = os.environ.get("GANKIT_TENSORRT_BINDING", "")
fake_only = pytest.mark.skipif(not BINDING, reason="simulates a failure of TensorRT")


@pytest.fixture(scope="session")
def contract():
    """The fake's contract with the binding; ``None`` on a real GPU."""
    if not BINDING:
        yield None
        return
    with tempfile.TemporaryDirectory() as work:
        made = Contract(import_binding(Path(BINDING), Path(work)))
        sys.modules["tensorrt"] = made.module()
        yield made


@pytest.fixture(scope="session")
def exported(tmp_path_factory):
    """Exported files, which all tests share."""
    return tmp_path_factory.mktemp("onnx")


@pytest.fixture(autouse=True)
def machine(contract, exported, monkeypatch, tmp_path):
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "onnx").symlink_to(exported)
    monkeypatch.setenv("GANKIT_CACHE", str(tmp_path / "cache"))
    if contract is None:
        return
    contract.fail, FakeGpu.captured = "", 0
    monkeypatch.setattr("gankit_export.gpu.Gpu", FakeGpu)
    # Not in torch itself, whose exporter would look for the GPU.
    monkeypatch.setattr("gankit.backends.tensorrt.cuda_available", lambda: True)
    monkeypatch.setattr("gankit.backends.choice.select.parse_devices", lambda device: (device,))
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device=None: (9, 0))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device=None: "Fake H100")
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device=None: (8 << 30, 8 << 30))
    monkeypatch.setattr("gankit.backends.tensorrt_engine._SIDES", (64,))  # a CPU computes the tiles here
    monkeypatch.setattr("gankit.backends.tensorrt_engine._PIXELS", 4 * 64 * 64)


@pytest.fixture
def spec():
    return EngineSpec(small_srgan(**OPTIONS), facts("srgan", OPTIONS), "fp16", "cuda")


def load(spec) -> TensorRTEngine:
    return backends.get("tensorrt").load(spec)


def test_the_version_is_known():
    assert library().__version__


@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
def test_every_precision_passes_the_gate(precision, spec):
    image = torch.rand(2, 3, 20, 31)
    with load(replace(spec, precision=precision)) as engine:
        parity = compare(engine.run(image), reference(spec.generator, image))
    assert parity.psnr > {"fp32": 100, "fp16": 50, "bf16": 40}[precision]
    assert precision == "fp32" or parity.psnr < 110


def test_bytes_come_out_as_bytes_in_channels_last(spec):
    image = torch.randint(0, 256, (1, 3, 24, 33), dtype=torch.uint8)
    with load(spec) as engine:
        result = engine.run(image)
    wanted = (reference(spec.generator, image.float() / 255).clamp(0, 1) * 255).round()
    assert result.dtype == torch.uint8
    assert result.is_contiguous(memory_format=torch.channels_last)
    assert (result.float() - wanted).abs().max() <= 2


def test_any_size_and_batch_through_one_engine_and_larger_images_through_another(spec, contract):
    lines = []
    with load(replace(spec, precision="fp32", notify=lines.append)) as engine:
        side = engine.tile
        for shape in ((1, 3, 5, 7), (9, 3, side, side), (4, 3, side, side), (3, 3, side, 20), (1, 3, side + 10, 16)):
            image = torch.rand(shape)
            torch.testing.assert_close(engine.run(image), reference(spec.generator, image), rtol=0, atol=1e-4)
    assert sum(f"{side}x{side};" in line or f"{2 * side}x{2 * side};" in line for line in lines) == 2, lines
    assert any(": 50 %" in line for line in lines)


def test_an_engine_is_built_once_and_verified(spec, contract):
    with load(spec) as engine:
        first = engine.run(torch.ones(1, 3, 16, 16))
    (path,) = (cache_folder() / "tensorrt").glob("*.engine")
    manifest = json.loads(path.with_name(path.name + ".json").read_text())
    half, every = manifest["half_layers"]
    assert 0 < half <= every
    assert manifest["machine"]["gpu"] == torch.cuda.get_device_name()
    assert manifest["psnr"] > 45
    lines = []
    with load(replace(spec, notify=lines.append)) as engine:
        torch.testing.assert_close(engine.run(torch.ones(1, 3, 16, 16)), first)
    assert lines == []
    path.write_bytes(path.read_bytes()[:-9])
    with load(replace(spec, notify=lines.append)) as engine:
        torch.testing.assert_close(engine.run(torch.ones(1, 3, 16, 16)), first)
    assert "has changed since gankit wrote it; building it again" in lines[0]
    assert sorted(item.suffix for item in path.parent.iterdir() if item.suffix != ".lock") == [
        ".bin",
        ".engine",
        ".json",
    ]


def test_other_weights_or_precisions_have_engines_of_their_own(spec):
    for variant in (spec, replace(spec, precision="fp32"), replace(spec, module=small_srgan(**OPTIONS, seed=1))):
        with load(variant) as engine:
            engine.run(torch.ones(1, 3, 16, 16))
    assert len(list((cache_folder() / "tensorrt").glob("*.engine"))) == 3


def test_a_shape_that_comes_again_runs_as_a_graph_on_the_new_pixels(spec, contract):
    with load(replace(spec, precision="fp32")) as engine:
        for _ in range(5):
            image = torch.rand(1, 3, 16, 16)
            torch.testing.assert_close(engine.run(image), reference(spec.generator, image), rtol=0, atol=1e-4)
    if contract is not None:
        assert FakeGpu.captured == 1


def test_more_shapes_than_contexts(spec):
    with load(replace(spec, precision="fp32")) as engine:
        for side in (8, 9, 10, 11, 12, 13, 8, 9):
            image = torch.rand(1, 3, side, side)
            torch.testing.assert_close(engine.run(image), reference(spec.generator, image), rtol=0, atol=1e-4)


def test_a_static_spec_takes_its_shape_alone(spec):
    with load(replace(spec, shapes=Shapes(batch=2, tile=(32, 48)))) as engine:
        assert engine.run(torch.rand(2, 3, 32, 48)).shape == (2, 3, 64, 96)
        image = torch.rand(3, 3, 32, 48)  # a full batch, and one that is filled up
        assert compare(engine.run(image), reference(spec.generator, image)).psnr > 45
        with pytest.raises(BackendError, match=r"takes input:2x3x32x48, not 2x3x32x47"):
            engine.run(torch.rand(2, 3, 32, 47))


def test_latents_and_classes():
    options = {"latent": 8, "classes": 4}
    net = build("cgan", options).eval().requires_grad_(False)
    spec = EngineSpec(net, facts("cgan", options), "fp32", "cuda")
    given = torch.randn(70, 8), torch.arange(70) % 4
    with load(spec) as engine:
        result = engine.run(*given)
    low, high = spec.facts.value_range
    torch.testing.assert_close(result, (reference(net, *given) - low) / (high - low), rtol=0, atol=1e-4)


def test_a_network_that_needs_the_whole_image():
    options = {"channels": 4, "blocks": 1}
    net = build("cyclegan", options).eval().requires_grad_(False)
    spec = EngineSpec(net, facts("cyclegan", options), "fp16", "cuda")
    assert spec.facts.tileable is False
    with load(spec) as engine:
        assert engine.tile is None
        for sides in ((32, 48), (72, 80)):
            image = torch.rand(1, 3, *sides)
            wanted = (reference(net, image * 2 - 1) + 1) / 2
            assert compare(engine.run(image), wanted).psnr > 45


def test_select_measures_it(spec, contract):
    from gankit.checkpoints.custom import from_module

    loaded = from_module(spec.generator, "upscale", None, {"scale": 2, "value_range": (0, 1)})
    lines = []
    chosen = select(loaded, EngineOptions(backend="tensorrt", device="cuda"), notify=lines.append)
    assert (chosen.engine.backend, chosen.engine.precision) == ("tensorrt", "fp16")
    assert chosen.parity.psnr > 45
    chosen.engine.close()
    again = select(loaded, EngineOptions(backend="tensorrt", device="cuda"), notify=lines.append)
    assert "from the cache" in again.summary
    again.engine.close()


@pytest.fixture
def weights(tmp_path, monkeypatch):
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    path = tmp_path / "mine.safetensors"
    save(path, small_srgan(**OPTIONS).state_dict(), "srgan", OPTIONS)
    return path


def test_upscale_cuts_large_images_into_its_tiles(weights, tmp_path, capsys, contract):
    pixels = np.random.default_rng(0).integers(0, 256, (12, 16, 3), np.uint8)
    Image.fromarray(pixels).resize((150, 100), Image.Resampling.BICUBIC).save(tmp_path / "a.png")
    both = []
    for backend in (["-b", "tensorrt", "--device", "cuda"], ["-b", "eager", "--device", "cpu"]):
        target = tmp_path / backend[1]
        arguments = ["upscale", str(tmp_path / "a.png"), "--output", str(target), "--model", str(weights), *backend]
        assert main([*arguments, "--precision", "fp32"]) == 0, capsys.readouterr().err
        (path,) = target.glob("*.png")
        both.append(np.asarray(Image.open(path)).astype(int))
    assert both[0].shape == (200, 300, 3)
    assert np.abs(both[0] - both[1]).max() <= 1
    if contract is not None:  # its tiles are smaller than the image, and than the one that is timed
        assert "4x3x64x64; this takes minutes" in capsys.readouterr().err


@pytest.mark.parametrize("io", ["float32", "uint8"])
@pytest.mark.parametrize("shapes", ["2x64x64", "1x8x8,1x64x64,4x64x80"])
def test_upscale_with_an_engine_file(shapes, io, weights, tmp_path, capsys):
    arguments = ["export", "--model", str(weights), "--format", "tensorrt", "--fp16", "--shapes", shapes, "--io", io]
    assert main([*arguments, "--output", "mine.engine"]) == 0, capsys.readouterr().err
    pixels = np.random.default_rng(0).integers(0, 256, (12, 16, 3), np.uint8)
    Image.fromarray(pixels).resize((150, 100), Image.Resampling.BICUBIC).save(tmp_path / "a.png")
    both = []
    for model in ("mine.engine", str(weights)):
        target = tmp_path / Path(model).name.replace(".", "_")
        device = ["--backend", "eager", "--device", "cpu", "--precision", "fp32"] if model == str(weights) else []
        assert main(["upscale", str(tmp_path / "a.png"), "-o", str(target), "--model", model, *device]) == 0
        (path,) = target.glob("*.png")
        both.append(np.asarray(Image.open(path)).astype(int))
    assert both[0].shape == (200, 300, 3)
    assert np.abs(both[0] - both[1]).max() <= 3
    capsys.readouterr()
    for wrong, text in (
        (["--backend", "eager"], "does not run this file"),
        (["--precision", "fp32"], "computes in fp16"),
        (["--device", "cpu"], "runs on a GPU"),
    ):
        done = main(["upscale", str(tmp_path / "a.png"), "-o", str(tmp_path / "no"), "--model", "mine.engine", *wrong])
        assert (done, text in capsys.readouterr().err) == (2, True)


@fake_only
def test_an_engine_file_of_another_gpu_is_refused(weights, tmp_path, capsys, monkeypatch):
    arguments = ["export", "--model", str(weights), "--format", "tensorrt", "--shapes", "1x64x64"]
    assert main([*arguments, "--output", "mine.engine"]) == 0
    Image.new("RGB", (70, 70)).save(tmp_path / "a.png")
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device=None: "Fake A100")
    upscale = ["upscale", str(tmp_path / "a.png"), "-o", str(tmp_path / "out"), "--model", "mine.engine"]
    assert main(upscale) == 2
    assert "was built for GPU Fake H100, and this is GPU Fake A100" in capsys.readouterr().err
    Path("mine.engine").write_bytes(b"cut")
    assert main(upscale) == 2
    assert "its manifest does not match" in capsys.readouterr().err
    Path("mine.engine.json").unlink()
    assert main(upscale) == 2
    assert "mine.engine.json is missing" in capsys.readouterr().err


def test_export_writes_an_engine_and_its_manifest(weights, tmp_path, capsys):
    assert main(["export", "--model", str(weights), "--format", "tensorrt", "--fp16", "--shapes", "2x32x48"]) == 0
    here = tmp_path / "here"
    assert sorted(item.name for item in here.iterdir()) == ["mine_x2_fp16.engine", "mine_x2_fp16.engine.json"]
    content = json.loads((here / "mine_x2_fp16.engine.json").read_text())
    assert [item["shape"] for item in content["parity"]] == [[2, 3, 32, 48]]
    assert content["engine"]["profiles"] == [{"input": [[2, 3, 32, 48]] * 3}]
    assert "layers in half precision" in " ".join(capsys.readouterr().out.split())


@pytest.mark.skipif(find_spec("nncf") is None, reason="the extra 'int8' is not installed")
def test_export_in_int8(weights, tmp_path, capsys, contract, monkeypatch):
    monkeypatch.delenv("GANKIT_DATA", raising=False)
    monkeypatch.setattr("gankit.pipeline.quantising._SHIPPED_CROPS", 3)
    export = ["export", "--model", str(weights), "--format", "tensorrt", "--int8", "--shapes", "1x64x64"]
    assert main(export) == 0, capsys.readouterr().err
    assert "layers of the engine read int8" in capsys.readouterr().out
    engine = tmp_path / "here" / "mine_x2_int8.engine"
    content = json.loads(engine.with_name(f"{engine.name}.json").read_text())
    assert (content["precision"], content["kind"], content["runtime"]) == ("int8", "tensorrt", "tensorrt")
    assert {tuple(item["shape"]) for item in content["parity"]} == {(1, 3, 64, 64)}
    assert min(item["psnr"] for item in content["parity"]) >= 38
    assert "signed" in content["quantised"]["estimator"]
    Image.new("RGB", (70, 70), (90, 120, 30)).save(tmp_path / "a.png")
    upscale = ["upscale", str(tmp_path / "a.png"), "-o", str(tmp_path / "out"), "--model", str(engine)]
    assert main(upscale) == 0
    assert "on tensorrt int8" in capsys.readouterr().out
    if contract is not None:
        contract.fail = "far"
        assert main([*export, "--overwrite"]) == 1
        assert "38 dB at the worst image" in capsys.readouterr().err


def test_export_of_a_range_of_shapes(weights, tmp_path):
    shapes = "1x8x8,1x32x32,2x64x48"
    assert main(["export", "--model", str(weights), "--format", "tensorrt", "--shapes", shapes]) == 0
    content = json.loads((tmp_path / "here" / "mine_x2_fp32.engine.json").read_text())
    assert [item["shape"] for item in content["parity"]] == [[1, 3, 8, 8], [1, 3, 32, 32], [1, 3, 64, 48]]


@fake_only
def test_export_that_fails_parity_leaves_nothing(weights, tmp_path, contract, capsys):
    contract.fail = "far"
    assert main(["export", "--model", str(weights), "--format", "tensorrt"]) == 1
    assert not list((tmp_path / "here").iterdir())
    assert "dB are needed" in capsys.readouterr().err


@fake_only
@pytest.mark.parametrize(
    ("failure", "message"),
    [
        ("parse", r"cannot read the model: Conv '/body/7/Conv': no importer for this"),
        ("build", r"cannot build an engine: Error Code 10: no implementation of /body/7"),
        ("load", r"cannot load the engine: version tag does not match"),
        ("run", r"TensorRT failed"),
        ("fp32", r"computes none of its 2 layers in fp16"),
        ("far", r"reaches 20\.0 dB against fp32 at .*, below 45 dB"),
    ],
)
def test_failures_are_one_line_and_store_nothing(failure, message, spec, contract):
    contract.fail = failure
    with load(spec) as engine, pytest.raises(BackendError, match=message) as caught:
        engine.run(torch.rand(1, 3, 16, 16))
    assert "\n" not in str(caught.value)
    assert not list((cache_folder() / "tensorrt").glob("*.engine"))


@fake_only
def test_a_precision_that_fails_is_an_error_of_parity(spec, contract, tmp_path):
    from gankit.checkpoints.custom import from_module

    contract.fail = "far"
    loaded = from_module(spec.generator, "upscale", None, {"scale": 2, "value_range": (0, 1)})
    with pytest.raises((ParityError, BackendError), match="below 45 dB"):
        select(loaded, EngineOptions(backend="tensorrt", device="cuda", precision="fp32"))


@fake_only
def test_ctrl_c_stops_the_build(spec, contract, monkeypatch):
    def interrupt(phase, fraction):
        raise KeyboardInterrupt

    monkeypatch.setattr("gankit.backends.tensorrt_engine.quarters", lambda report: interrupt)
    with load(spec) as engine, pytest.raises(KeyboardInterrupt):
        engine.run(torch.rand(1, 3, 16, 16))
    assert not list((cache_folder() / "tensorrt").glob("*.engine"))


@fake_only
def test_a_timing_cache_of_another_machine_is_replaced(spec, contract):
    with load(spec) as engine:
        engine.run(torch.rand(1, 3, 16, 16))
    (timings,) = (cache_folder() / "tensorrt").glob("timings-*.bin")
    assert timings.read_bytes() == b"timings"
    timings.write_bytes(b"of another version")
    with load(replace(spec, precision="fp32")) as engine:
        engine.run(torch.rand(1, 3, 16, 16))
    assert timings.read_bytes() == b"timings"


@fake_only
def test_wrong_calls_are_refused(contract):
    """The fake must refuse what the binding refuses, or the tests above would prove nothing."""
    trt = library()
    logger = trt.Logger(trt.Logger.WARNING)
    builder = trt.Builder(logger)
    config = builder.create_builder_config()
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    profile = builder.create_optimization_profile()
    for wrong in (
        lambda: trt.Builder(),
        lambda: trt.Builder("logger"),
        lambda: builder.create_builder_config(1),
        lambda: builder.create_networks(0),
        lambda: builder.build_serialized_network(config, network),
        lambda: builder.build_serialized_network(network),
        lambda: profile.set_shape("input", 1, 2, 3),
        lambda: profile.set_shape("input", (1, 2.5), (1, 3), (1, 4)),
        lambda: config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, 4e9),
        lambda: config.set_timing_cache(b"", False),
        lambda: setattr(config, "builder_optimization_level", "3"),
        lambda: setattr(config, "progress_monitor", object()),
        lambda: setattr(config, "progress_bar", None),
        lambda: trt.OnnxParser(network, logger).parse("model.onnx"),
        lambda: trt.Runtime(logger).deserialize_cuda_engine("plan"),
    ):
        with pytest.raises((TypeError, AttributeError)):
            wrong()
    with pytest.raises(AssertionError, match="not strongly typed"):
        builder.create_network(2 if contract.major >= 11 else 1)
    if contract.major >= 11:
        with pytest.raises(AttributeError):
            config.set_flag(trt.BuilderFlag.FP16)


@fake_only
def test_a_wrong_call_of_the_backend_itself_is_refused(spec, contract, monkeypatch):
    """Our own code, with one wrong type in it, does not get past the binding's signatures."""
    monkeypatch.setattr(
        building.BuildSettings, "__init__", lambda self: object.__setattr__(self, "optimization_level", "3")
    )
    with pytest.raises(TypeError, match="builder_optimization_level"):
        building.build(b"model", [], building.BuildSettings())


@fake_only
def test_most_of_the_recipe_was_held_against_the_binding(spec, contract):
    contract.calls.clear()
    with load(spec) as engine:
        engine.run(torch.rand(1, 3, 16, 16))
    assert {
        "Builder.create_network",
        "Builder.build_serialized_network",
        "OnnxParser.parse",
        "IBuilderConfig.clear_flag",
        "IBuilderConfig.progress_monitor=",
        "IBuilderConfig.set_timing_cache",
        "IOptimizationProfile.set_shape",
        "Runtime.deserialize_cuda_engine",
        "ICudaEngine.get_tensor_profile_shape",
        "ICudaEngine.create_execution_context",
        "EngineInspector.get_engine_information",
        "IExecutionContext.set_device_memory",
        "IExecutionContext.set_tensor_address",
        "IExecutionContext.execute_async_v3",
    } <= set(contract.calls)
