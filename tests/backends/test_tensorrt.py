"""TensorRT: its parts by themselves, and the suite of the backend on every binding that is at hand and on a GPU."""

import json
import os
import shutil
import subprocess
import sys
import types
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from gankit_export.manifest import Manifest, manifest_path
from gankit_export.tensorrt.artefact import read_engine
from gankit_export.tensorrt.build import BuildSettings, Phases
from gankit_export.tensorrt.inspector import half_layers
from gankit_export.tensorrt.library import TensorRTError, library, missing
from gankit_export.tensorrt.machine import Machine
from gankit_export.tensorrt.profiles import Profile, Range, batch_profile, image_profile
from gankit_export.tensorrt.store import EngineFacts, EngineStore, key, verify
from torch import nn

from gankit import backends
from gankit.backends.base import EngineSpec
from gankit.backends.tensorrt_engine import image_profiles, quarters, tile_side
from gankit.errors import BackendError
from gankit.models import facts
from tests.conftest import ROOT

HERE = Machine("11.4.0.106", "13.0", "590.10", "NVIDIA H100", "9.0", "Linux x86_64")
STATIC = image_profile("input", "1x64x64", 3)


def bindings():
    """Folders of ``tensorrt_bindings``: the installed one, and those in ``GANKIT_TENSORRT_BINDINGS``."""
    folders = [Path(item) / "tensorrt_bindings" for item in os.environ.get("GANKIT_TENSORRT_BINDINGS", "").split(":")]
    spec = find_spec("tensorrt_bindings")
    folders += [Path(item) for item in (spec.submodule_search_locations or () if spec else ())]
    found = {}
    for folder in folders:
        if (folder / "__init__.py").is_file():
            lines = (folder / "__init__.py").read_text().splitlines()
            version = next(line.split('"')[1] for line in lines if line.startswith("__version__"))
            found.setdefault(version, folder)
    return found


def run_suite(**environment):
    words = [sys.executable, "-m", "pytest", "-n", "0", "-q", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [*words, "tests/backends/tensorrt_suite.py"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    return done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("version", [*bindings()] or [None])
def test_the_backend_keeps_to_the_binding(version):
    """Every call of the backend, against the signatures of NVIDIA's own wheel; results come from a simulation."""
    if version is None:
        pytest.skip("no TensorRT binding: pip install --no-deps tensorrt-cu13-bindings")
    if shutil.which("gcc") is None:
        pytest.skip("no gcc, which compiles the stub libraries")
    assert "skipped" not in run_suite(GANKIT_TENSORRT_BINDING=str(bindings()[version]))


@pytest.mark.gpu
@pytest.mark.slow
def test_the_backend_on_a_gpu():
    """The same suite with TensorRT itself."""
    if not torch.cuda.is_available():
        pytest.skip("no GPU")
    if (why := missing()) is not None:
        pytest.skip(why)
    run_suite(GANKIT_TENSORRT_BINDING="")


@pytest.fixture
def gpu(monkeypatch):
    """A machine that seems to have a GPU."""
    monkeypatch.setattr("gankit.backends.tensorrt.cuda_available", lambda: True)
    return EngineSpec(nn.Identity(), facts("srgan"), "fp16", "cuda")


def test_without_the_package_there_is_one_line_with_the_command(gpu, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    with pytest.raises(BackendError, match=r"TensorRT is not installed: pip install tensorrt-cu13==") as caught:
        backends.get("tensorrt").load(gpu)
    assert "\n" not in str(caught.value)


def test_without_a_gpu_nothing_is_to_be_installed():
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(BackendError, match="finds no CUDA GPU") as caught:
        backends.get("tensorrt").load(EngineSpec(nn.Identity(), facts("srgan"), "fp16", "cuda"))
    assert "pip install" not in str(caught.value)


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({}, "empty placeholder"),
        ({"__version__": "11.4.0.106"}, "empty placeholder"),
        ({"__version__": "8.6.1", "Builder": 1}, r"8\.6\.1 is installed, but 10\.12 to 11\.x is needed"),
        ({"__version__": "12.0.0", "Builder": 1}, r"12\.0\.0 is installed"),
    ],
)
def test_other_packages_of_that_name(members, message, monkeypatch):
    module = types.ModuleType("tensorrt")
    module.__dict__.update(members)
    monkeypatch.setitem(sys.modules, "tensorrt", module)
    with pytest.raises(TensorRTError, match=message):
        library()


def test_a_library_that_does_not_load_gives_its_own_reason(monkeypatch, tmp_path):
    (tmp_path / "tensorrt.py").write_text("raise ImportError('libnvinfer.so.11: cannot open shared object file')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "tensorrt", raising=False)
    assert "does not load: libnvinfer.so.11: cannot open" in missing()


def test_profiles():
    profile = image_profile("input", "1x32x64,2x64x64,4x128x96", 3, 32)
    assert profile.inputs["input"] == Range((1, 3, 32, 64), (2, 3, 64, 64), (4, 3, 128, 96))
    assert str(profile) == "input:1x3x32x64,2x3x64x64,4x3x128x96"
    assert profile.admits({"input": (3, 3, 96, 64)})
    assert not profile.admits({"input": (3, 3, 129, 64)})
    assert not profile.admits({"other": (3, 3, 96, 64)})
    assert Profile.from_json(json.loads(json.dumps(profile.to_json()))) == profile
    assert image_profile("input", "2x8x8", 1).inputs["input"].static
    assert batch_profile({"latents": (7,), "classes": ()}, 4).admits({"latents": (3, 7), "classes": (3,)})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("256", "is not BATCHxHEIGHTxWIDTH"),
        ("1x8x8,1x8x8", "is not BATCHxHEIGHTxWIDTH"),
        ("0x8x8", "is not in order"),
        ("2x8x8,1x8x8,4x8x8", "is not in order"),
        ("1x8x9", "multiples of 4"),
    ],
)
def test_profiles_that_are_wrong(text, message):
    with pytest.raises(ValueError, match=message):
        image_profile("input", text, 3, 4)


def test_the_tile_follows_the_halo():
    found = facts("srgan")
    assert [tile_side(found, reach) for reach in (0, 32, 40, 100, 348)] == [256, 256, 512, 1024, 1024]
    static, dynamic = image_profiles(found, 256)
    assert static.inputs["input"].best == (4, 3, 256, 256)
    assert static.inputs["input"].static
    assert dynamic.admits({"input": (1, 3, 1, 256)})
    assert dynamic.admits({"input": (4, 3, 256, 256)})


def test_half_precision_layers_in_both_forms():
    def described(layers):
        return half_layers(json.dumps({"Layers": layers}))

    ten = [
        {"Inputs": [{"Format/Datatype": "Row major linear FP32"}], "Outputs": [{"Format/Datatype": "Half"}]},
        {"Inputs": [{"Format/Datatype": "Channel major FP16 format where channel % 8 == 0"}], "Outputs": []},
        {"Inputs": [{"Format/Datatype": "N/A due to dynamic shapes"}], "Outputs": []},
    ]
    eleven = [
        {"Inputs": [{"Format": "LINEAR", "DataType": "BF16"}], "Outputs": [{"Format": "HWC8", "Datatype": "BF16"}]},
        {"Inputs": [{"Format": "LINEAR", "DataType": "Float"}], "Outputs": [{"Format": "HWC8", "DataType": "FP16"}]},
        {"Inputs": [{"Format": "LINEAR", "DataType": "INT64"}], "Outputs": []},
    ]
    assert described(ten) == described(eleven) == (1, 2)
    assert described(["a name only"]) == (0, 0)
    with pytest.raises(ValueError, match="unknown form"):
        half_layers("[]")


def test_the_progress_of_nested_phases_grows_to_one():
    phases, seen = Phases(), []
    seen.append(phases.start("build", None, 2)[1])
    for step in range(2):
        seen.append(phases.start("inner", "build", 4)[1])
        seen += [phases.step("inner", index)[1] for index in range(4)]
        seen.append(phases.finish("inner")[1])
        seen.append(phases.step("build", step)[1])
    seen.append(phases.finish("build")[1])
    assert seen == sorted(seen)
    assert seen[3] == 0.25
    assert seen[-1] == 1.0
    lines = []
    progress = quarters(lines.append)
    for value in seen:
        progress("build", value)
    assert lines == [25, 50, 75]


@pytest.mark.parametrize(
    "change",
    [
        {"onnx": "b" * 64},
        {"machine": replace(HERE, tensorrt="10.16.1.11")},
        {"machine": replace(HERE, driver="600.1")},
        {"machine": replace(HERE, cuda="12.9")},
        {"machine": replace(HERE, gpu="NVIDIA H200")},
        {"machine": replace(HERE, compute_capability="10.0")},
        {"profiles": [image_profile("input", "1x64x65", 3)]},
        {"settings": BuildSettings(tf32=True)},
    ],
)
def test_the_key_depends_on_everything(change):
    def made(onnx="a" * 64, machine=HERE, profiles=(STATIC,), settings=None):
        return key(onnx, machine, profiles, settings or BuildSettings())

    assert made() == made()
    assert made(**change) != made()


@pytest.mark.parametrize(
    ("other", "reason"),
    [
        (replace(HERE, tensorrt="10.16.1.11"), "built for TensorRT 10.16.1.11, and this is TensorRT 11.4.0.106"),
        (replace(HERE, gpu="NVIDIA A100"), "built for GPU NVIDIA A100, and this is GPU NVIDIA H100"),
        (replace(HERE, compute_capability="8.0"), "compute capability 8.0"),
        (replace(HERE, cuda="12.8"), "CUDA 12"),
        (replace(HERE, system="Windows AMD64"), "system Windows AMD64"),
        (replace(HERE, driver="1.2", cuda="13.1"), None),
    ],
)
def test_an_engine_of_another_machine_is_refused_early(other, reason, tmp_path):
    path = stored(tmp_path, replace(facts_of(b"plan"), machine=other))
    if reason is None:
        assert read_engine(path, HERE)[0] == b"plan"
        return
    with pytest.raises(TensorRTError, match=reason):
        read_engine(path, HERE)


def test_engine_files_that_do_not_match_their_manifest(tmp_path):
    path = stored(tmp_path, facts_of(b"plan"))
    path.write_bytes(b"pla")
    with pytest.raises(TensorRTError, match="differs from the checksum in its manifest"):
        read_engine(path, HERE)
    path.write_bytes(b"plan")
    manifest_path(path).write_text("{}")
    with pytest.raises(TensorRTError, match="its manifest does not match"):
        read_engine(path, HERE)
    manifest_path(path).unlink()
    with pytest.raises(TensorRTError, match=r"its manifest x\.engine\.json is missing"):
        read_engine(path, HERE)
    with pytest.raises(FileNotFoundError):
        read_engine(tmp_path / "none.engine", HERE)


def facts_of(plan):
    import hashlib

    digest = hashlib.sha256(plan).hexdigest()
    return EngineFacts("a" * 64, HERE, (STATIC,), BuildSettings(), (3, 4), 52.5, digest)


def stored(folder, found):
    path = folder / "x.engine"
    path.write_bytes(b"plan")
    manifest = Manifest(
        model="srgan",
        weights="w",
        weights_sha256="c" * 64,
        options={},
        precision="fp16",
        opset=18,
        input={},
        output={},
        dims={},
        value_range=(0, 1),
        scale=4,
        multiple=1,
        sha256=found.sha256,
        half_convolutions=(1, 1),
        threshold=50,
        runtime="tensorrt",
        parity=(),
        engine=found.to_json(),
    )
    manifest_path(path).write_text(manifest.to_json())
    return path


def test_a_store_makes_an_engine_once_and_verifies_it(tmp_path):
    made, lines = [], []
    store = EngineStore(tmp_path / "engines")

    def make():
        made.append(1)
        return b"plan", facts_of(b"")

    plan, found = store.get("my [net]", "d" * 64, make, lines.append)
    assert (plan, found) == (b"plan", facts_of(b"plan"))
    assert store.get("my [net]", "d" * 64, make, lines.append) == (plan, found)
    path = store.path("my [net]", "d" * 64)
    assert verify(path) is None
    for damage in (lambda: path.write_bytes(b"plam"), manifest_path(path).unlink):
        damage()
        assert verify(path) is not None
        assert store.get("my [net]", "d" * 64, make, lines.append) == (plan, found)
    assert len(made) == 3
    assert [line.partition("this cached engine ")[2] for line in lines] == [
        "has changed since gankit wrote it; building it again",
        "has no manifest that describes it; building it again",
    ]


def test_a_build_that_fails_leaves_nothing(tmp_path):
    store = EngineStore(tmp_path)

    def fail():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store.get("net", "d" * 64, fail)
    assert [path.suffix for path in tmp_path.iterdir()] in ([], [".lock"])


WAIT = """
import sys, time
from pathlib import Path
from gankit_export.tensorrt.store import EngineStore
from tests.backends.test_tensorrt import facts_of

folder = Path(sys.argv[1])
def make():
    with (folder / "made").open("a") as file:
        file.write("x")
    time.sleep(0.5)
    return b"plan", facts_of(b"plan")
EngineStore(folder / "engines").get("net", "d" * 64, make)
"""


@pytest.mark.slow
def test_processes_wait_for_the_one_that_builds(tmp_path):
    running = [subprocess.Popen([sys.executable, "-c", WAIT, str(tmp_path)], cwd=ROOT) for _ in range(2)]
    assert [process.wait() for process in running] == [0, 0]
    assert (tmp_path / "made").read_text() == "x"
