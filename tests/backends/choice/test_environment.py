"""What the doctor says is true."""

import psutil
import torch

from gankit.backends.choice import environment as environment_module
from gankit.backends.choice.environment import environment, installed
from gankit.backends.choice.machine import machine
from gankit.backends.compiled import CompileBackend
from gankit.backends.cpu import instructions
from gankit.backends.eager import EagerBackend
from gankit.backends.onnx_runtime import OnnxRuntimeBackend


def test_environment_names_every_backend_and_the_way_out():
    found = environment()
    assert {"eager", "compile", "onnxruntime", "openvino", "tensorrt"} <= set(found.backends)
    assert found.backends["eager"][0]
    for usable, why, _ in found.backends.values():
        assert usable or why


def test_versions_are_the_installed_ones():
    assert installed()["torch"] == torch.__version__.split("+")[0] or installed()["torch"] == torch.__version__


def test_lightning_fabric_also_comes_with_lightnings_trainer(monkeypatch):
    own, trainer = {"lightning-fabric": "2.6"}, {"pytorch-lightning": "2.5"}
    for there, wanted in ((own | trainer, "2.6"), (trainer, "2.5"), ({}, None)):
        monkeypatch.setattr(environment_module, "installed_version", there.get)
        assert installed()["lightning-fabric"] == wanted


def test_machine_is_this_one():
    here = machine()
    assert 1 <= here.cores <= psutil.cpu_count()
    assert ("AVX-512" in here.features) == (torch.backends.cpu.get_cpu_capability() == "AVX512")
    assert (here.gpu is None) == (not torch.cuda.is_available())


def test_precisions_are_those_that_run_here(monkeypatch):
    monkeypatch.setattr(instructions, "bf16_on_cpu", lambda: False)
    monkeypatch.setattr(environment_module, "devices", lambda: ("cpu",))
    assert environment().backends["eager"][2] == ("fp32",)


def test_a_machine_with_a_gpu_shows_both_devices(monkeypatch):
    monkeypatch.setattr(instructions, "bf16_on_cpu", lambda: True)
    monkeypatch.setattr(environment_module, "devices", lambda: ("cuda", "cpu"))
    monkeypatch.setattr(EagerBackend, "missing", lambda self, spec: None)
    monkeypatch.setattr(CompileBackend, "missing", lambda self, spec: "needs it" if spec.device == "cuda" else None)
    monkeypatch.setattr(OnnxRuntimeBackend, "missing", lambda self, spec: None)
    found = environment().backends
    assert found["eager"] == (True, "", ("fp32", "bf16", "fp16 (cuda only)"))
    assert found["onnxruntime"] == (True, "", ("fp32", "fp16 (cuda only)"))
    usable, why, precisions = found["compile"]
    assert (usable, precisions) == (True, ("fp32 (cpu only)", "bf16 (cpu only)"))
    assert why == "cuda: needs it; takes minutes to compile; auto uses it only for long jobs"
