"""Devices and precisions: what is asked for, what is here, and the one line where they do not meet."""

import pytest
import torch

from gankit.backends import candidates, get
from gankit.backends.choice.candidates import first_precision, offered, parse_device
from gankit.errors import BackendError, UsageError


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
    with pytest.raises(UsageError, match=r"unknown device .*: known are auto, cpu, cuda and cuda:N"):
        parse_device(word)


@pytest.mark.parametrize(
    ("count", "words"), [(0, "sees no CUDA GPU; use --device cpu"), (2, "this machine has cuda:0, cuda:1")]
)
def test_a_gpu_that_is_not_here(count, words, gpus):
    gpus(count)
    with pytest.raises(UsageError, match=f"'cuda:7': .*{words}"):
        parse_device("cuda:7")


@pytest.mark.parametrize("bf16", [False, True])
def test_bf16_is_offered_where_the_processor_has_it(bf16, monkeypatch):
    monkeypatch.setattr(candidates, "bf16_on_cpu", lambda: bf16)
    assert offered(get("eager"), "cpu") == (("fp32", "bf16") if bf16 else ("fp32",))
    assert offered(get("eager"), "cuda") == ("fp32", "bf16", "fp16")
    assert offered(get("onnxruntime"), "cuda") == ()
    if not bf16:
        with pytest.raises(BackendError, match=r"bf16 on this CPU, which has no AVX-512; it offers fp32$"):
            first_precision(get("eager"), "bf16", "cpu")


def test_no_backend_says_why_for_each():
    with pytest.raises(BackendError) as caught:
        candidates.candidates("auto", "fp16", "cpu")
    line = str(caught.value)
    assert "\n" not in line
    assert "backend 'eager' does not run fp16 on cpu; it offers fp32" in line
    for name in ("compile", "onnxruntime", "openvino"):
        assert f"backend '{name}'" in line
