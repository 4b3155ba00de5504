"""``gankit doctor``."""

import importlib.machinery
import json
import subprocess
import sys
from dataclasses import replace

import pytest

from gankit import cli
from gankit.backends.choice import diagnosis, environment


def test_this_machine(capsys):
    assert cli.main(["doctor"]) == 0
    out = capsys.readouterr().out
    for words in ("processor", "memory", "torch", "eager", "openvino", "tensorrt"):
        assert words in out


def test_what_is_missing_is_reported_with_the_way_out(capsys, monkeypatch):
    found = environment.Environment(
        {"processor": "Abacus [9000]"},
        {"torch": "2.13.0", "openvino": None},
        {"eager": (True, "", ("fp32", "bf16")), "openvino": (False, "pip install 'gankit[cpu]'", ())},
    )
    monkeypatch.setattr(environment, "environment", lambda: found)
    assert cli.main(["doctor"]) == 0
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines() if line.split()}
    assert "Abacus [9000]" in lines["processor"]  # brackets are not markup
    assert "yes" in lines["eager"]
    assert "fp32, bf16" in lines["eager"]
    assert "pip install 'gankit[cpu]'" in lines["openvino"]


def test_a_machine_without_any_backend_is_a_failure(monkeypatch):
    monkeypatch.setattr(
        environment, "environment", lambda: environment.Environment({}, {}, {"eager": (False, "no", ())})
    )
    assert cli.main(["doctor"]) == 1


def test_it_loads_no_runtime():
    """Versions and precisions are known without the packages, whose imports take seconds."""
    code = (
        "import sys; from gankit import cli; cli.main(['doctor']); "
        "print('loaded:', sorted({'openvino', 'onnxruntime', 'onnx', 'onnxscript', 'triton', 'gankit.checkpoints', "
        "'torch._inductor'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "loaded: []"


def test_json(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("GANKIT_CACHE", str(tmp_path))
    (tmp_path / "onnx").mkdir()
    (tmp_path / "onnx" / "a.onnx").write_bytes(bytes(123))
    assert cli.main(["doctor", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["torch"]["version"].startswith("2.")
    assert found["backends"]["eager"]["usable"] is True
    assert found["providers"]["CPUExecutionProvider"] == ""
    assert (found["cache"], found["cache_bytes"]) == (str(tmp_path), 123)
    assert found["free_bytes"] > 0
    assert {"driver", "gpus", "tensorrt", "compilers", "problems", "system", "packages"} <= set(found)


@pytest.fixture
def machine(monkeypatch):
    """A machine with a GPU on which nothing is wrong; the installed packages are those in the dictionary."""
    packages = {"onnxruntime-gpu": "1.31.1"}
    monkeypatch.setattr(diagnosis, "installed_version", packages.get)
    monkeypatch.setattr(diagnosis, "cache_notice", lambda: None)
    gpu = diagnosis.Gpu("NVIDIA Abacus", 80 << 30, 79 << 30, "9.0")
    providers = {"CUDAExecutionProvider": "", "TensorrtExecutionProvider": "libnvinfer.so.10: no such file"}
    versions = {"version": "2.13.0+cu130", "cuda": "13.0", "cudnn": "91900"}
    tools = {"c++": "/usr/bin/c++", "nvcc": None, "triton": "3.7.1"}
    return packages, diagnosis.Diagnosis(
        "0.1.0", versions, "580.1", (gpu,), providers, None, tools, "/cache", 0, 9 << 30, ()
    )


def test_a_good_machine_has_no_problems(machine):
    assert list(diagnosis.problems(machine[1])) == []


@pytest.mark.parametrize(
    ("change", "what", "fix"),
    [
        ({"gpus": (), "torch": {"version": "2.13.0+cpu", "cuda": None}}, "build for CPUs", "torch==2.13.0"),
        ({"gpus": ()}, "no GPU with driver 580.1 and its CUDA 13.0", "install a newer driver"),
        ({"compilers": {"c++": "/c++", "triton": None}}, "Triton is not installed", "pip install triton"),
        ({"compilers": {"c++": None, "triton": "3"}}, "No C++ compiler", "apt-get install g++"),
        ({"providers": {"CUDAExecutionProvider": "libcudart.so.12"}}, "libcudart.so.12", "onnxruntime-gpu"),
        ({"tensorrt": "11.4.0.106"}, "TensorrtExecutionProvider does not load", "tensorrt-cu13==10.16.1.11"),
        ({"free_bytes": 5 << 20}, "has 5 MB left", "gankit cache remove"),
    ],
)
def test_each_problem_has_the_line_that_mends_it(machine, change, what, fix):
    (problem,) = diagnosis.problems(replace(machine[1], **change))
    assert what in problem.what
    assert problem.what.endswith(".")
    assert fix in problem.fix


def test_two_packages_that_overwrite_each_other(machine, monkeypatch, capsys):
    packages, found = machine
    packages["onnxruntime"] = "1.31.1"
    (problem,) = diagnosis.problems(found)
    assert "overwrite each other" in problem.what
    monkeypatch.setattr(diagnosis, "diagnosis", lambda: replace(found, problems=(problem,)))
    assert cli.main(["doctor"]) == 0
    shown = capsys.readouterr().out
    for words in ("NVIDIA Abacus", "580.1", "pip uninstall -y onnxruntime onnxruntime-gpu && pip install"):
        assert words in shown


def test_a_provider_that_does_not_load_says_why(monkeypatch, tmp_path):
    (tmp_path / "capi").mkdir()
    (tmp_path / "capi" / "libonnxruntime_providers_shared.so").write_bytes(b"nothing")
    (tmp_path / "capi" / "libonnxruntime_providers_cuda.so").write_bytes(b"nothing")
    spec = importlib.machinery.ModuleSpec("onnxruntime", None, origin=str(tmp_path / "__init__.py"))
    monkeypatch.setattr(diagnosis, "find_spec", lambda name: spec)
    monkeypatch.setattr(diagnosis, "driver_installed", lambda: True)
    monkeypatch.setattr(diagnosis.sys, "platform", "linux")
    found = diagnosis._providers()
    assert "libonnxruntime_providers_shared.so" in found["CUDAExecutionProvider"]
    assert found["TensorrtExecutionProvider"] == "not part of this package"
    monkeypatch.setattr(diagnosis, "driver_installed", lambda: False)
    assert diagnosis._providers()["CUDAExecutionProvider"] == "no driver of a GPU is installed"


def test_the_version_of_the_driver(monkeypatch, tmp_path):
    listing = tmp_path / "version"
    listing.write_text("NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.95.05  Release Build\n")
    monkeypatch.setattr(diagnosis, "driver_installed", lambda: True)
    monkeypatch.setattr(diagnosis, "_LISTING", listing)
    assert diagnosis._driver() == "580.95.05"
