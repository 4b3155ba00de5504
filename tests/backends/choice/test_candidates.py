"""Devices and precisions: what is asked for, what is here, and the one line where they do not meet."""

from dataclasses import replace

import pytest
import torch

from gankit.backends import get
from gankit.backends.base import EngineSpec
from gankit.backends.choice import candidates
from gankit.backends.choice.candidates import first_precision, offered, parse_device
from gankit.backends.cpu import instructions
from gankit.errors import BackendError, UsageError
from gankit.models import facts
from gankit.options import EngineOptions
from tests.networks import small_srgan

OPTIONS = {"scale": 2, "channels": 8, "blocks": 1}
SPEC = EngineSpec(small_srgan(**OPTIONS), facts("srgan", OPTIONS))


@pytest.fixture
def gpus(monkeypatch):
    """Pretend that torch sees this many GPUs."""

    def pretend(count):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: count)

    return pretend


@pytest.mark.parametrize(
    ("given", "normal"),
    [("auto", "auto"), ("cpu", "cpu"), ("cpu:0", "cpu"), ("cuda", "cuda"), ("cuda:0", "cuda:0"), ("cuda:01", "cuda:1")],
)
def test_devices_have_one_spelling(given, normal, gpus):
    gpus(2)
    assert parse_device(given) == normal


@pytest.mark.parametrize("word", ["", "tpu", "cuda:", "cuda:abc", "cuda:-1", "cuda:1:2", "cpu:1", "CUDA", "cuda:¹"])
def test_other_devices_are_unknown(word, gpus):
    gpus(2)
    with pytest.raises(UsageError, match=r"unknown device .*; choose from auto, cpu, cuda, cuda:N and all"):
        parse_device(word)


@pytest.mark.parametrize(
    ("count", "words"), [(0, "finds no CUDA GPU; use --device cpu"), (2, "this machine has cuda:0, cuda:1")]
)
def test_a_gpu_that_is_not_here(count, words, gpus):
    gpus(count)
    with pytest.raises(UsageError, match=f"'cuda:7': .*{words}"):
        parse_device("cuda:7")


@pytest.mark.parametrize("bf16", [False, True])
def test_bf16_is_offered_where_the_processor_has_it(bf16, monkeypatch):
    monkeypatch.setattr(instructions, "bf16_on_cpu", lambda: bf16)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    on_gpu = replace(SPEC, device="cuda")
    assert offered(get("eager"), SPEC) == (("fp32", "bf16") if bf16 else ("fp32",))
    assert offered(get("eager"), on_gpu) == ("fp32", "bf16", "fp16")
    assert offered(get("onnxruntime"), on_gpu) == ()
    if not bf16:
        why = first_precision(get("eager"), SPEC, "bf16")
        assert why == "does not run bf16 on this CPU, which has no AVX-512; use --precision fp32"


def test_no_backend_says_why_for_each():
    with pytest.raises(BackendError) as caught:
        candidates.candidates(SPEC, EngineOptions(precision="fp16", device="cpu"))
    line = str(caught.value)
    assert "\n" not in line
    assert "backend 'eager': does not run fp16 on cpu; it offers fp32" in line
    for name in ("compile", "onnxruntime", "openvino"):
        assert f"backend '{name}'" in line


def test_supports_is_the_one_place_that_says_no(monkeypatch):
    """A declared attribute each: the device, the precision, the task, the model's own precisions."""
    eager = get("eager")
    assert eager.supports(SPEC) is None
    assert "does not run on tpu" in eager.supports(replace(SPEC, device="tpu"))
    assert "does not run fp16 on cpu" in eager.supports(replace(SPEC, precision="fp16"))
    wide = replace(SPEC, precision="bf16", facts=replace(SPEC.facts, precisions=("fp32",)))
    monkeypatch.setattr(instructions, "bf16_on_cpu", lambda: True)
    assert "does not run in bf16; use --precision fp32" in eager.supports(wide)
    images = type("Images", (type(eager),), {"tasks": ("upscale",)})()
    assert "does not run models that translate" in images.supports(
        replace(SPEC, facts=replace(SPEC.facts, task="translate", scale=1))
    )
    with pytest.raises(BackendError, match=r"backend 'eager': does not run fp16 on cpu"):
        eager.load(replace(SPEC, precision="fp16"))
    assert "runs layerwise on the CPU" in eager.supports(replace(SPEC, layer_bytes=1, device="cuda")) or (
        "no CUDA GPU" in eager.supports(replace(SPEC, layer_bytes=1, device="cuda"))
    )
    assert "does not run layerwise" in get("openvino").supports(replace(SPEC, layer_bytes=1))
