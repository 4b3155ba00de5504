"""GPUs as ``gankit doctor`` describes them, from a driver of two different ones."""

import json
from dataclasses import replace
from types import SimpleNamespace

import pytest

from gankit import cli
from gankit.backends.choice import diagnosis, gpus
from gankit.backends.choice.gpus import Gpu, found_gpus, gpu_problems, has_code, kernels_fault

BUILT_FOR = ["sm_75", "sm_80", "sm_90", "compute_90"]


class Driver:
    """``torch.cuda`` on a machine with an H100 and a GTX 1080, which differ in everything."""

    def __init__(self, *, broken=(), alone=()):
        self.broken, self.alone = broken, alone

    def device_count(self):
        return 2

    def get_device_properties(self, index):
        if index in self.broken:
            raise RuntimeError("CUDA error: GPU is lost\nmore")
        return (
            SimpleNamespace(name="NVIDIA H100 80GB HBM3", total_memory=85 * 10**9, major=9, minor=0),
            SimpleNamespace(name="NVIDIA GeForce GTX 1080", total_memory=8 * 10**9, major=6, minor=1),
        )[index]

    def mem_get_info(self, index):
        if index in self.alone:
            raise RuntimeError("CUDA error: CUDA-capable device(s) is/are busy or unavailable")
        return ((80 * 10**9, 85 * 10**9), (1 * 10**9, 8 * 10**9))[index]

    def get_arch_list(self):
        return BUILT_FOR


def test_two_gpus_are_described():
    asked = []
    one, two = found_gpus(Driver(), lambda major, minor: asked.append((major, minor)) or "")
    assert one == Gpu("NVIDIA H100 80GB HBM3", 85 * 10**9, 80 * 10**9, "9.0", "cuda:0")
    assert two == Gpu("NVIDIA GeForce GTX 1080", 8 * 10**9, 10**9, "6.1", "cuda:1", built=False)
    assert asked == [(9, 0)]  # nothing is compiled for a GPU on which torch does not run


def test_what_is_wrong_is_said_for_each():
    old, full = gpu_problems(found_gpus(Driver(), lambda *_: ""), "2.13.0")
    assert old.what == "torch 2.13.0 has no code for cuda:1 (NVIDIA GeForce GTX 1080) of compute capability 6.1."
    assert "use --device cuda:0 meanwhile" in old.fix
    assert full.what.startswith("cuda:1 (NVIDIA GeForce GTX 1080) has 1.0 of 8.0 GB left")
    assert full.fix == "nvidia-smi -i 1 names the process; use --device cuda:0 meanwhile"


def test_a_gpu_that_is_lost_or_busy():
    lost = found_gpus(Driver(broken=(0,)), lambda *_: "")
    first, *_ = gpu_problems(lost, "2.13.0")
    assert first.what == "cuda:0 cannot be used: CUDA error: GPU is lost."
    assert "nvidia-smi -i 0" in first.fix
    assert "use --device cpu meanwhile" in first.fix  # torch does not run on the other one
    busy = found_gpus(Driver(alone=(0,)), lambda *_: "")
    assert "busy or unavailable" in busy[0].fault
    assert next(gpu_problems(busy, None)).what.startswith("cuda:0 (NVIDIA H100 80GB HBM3) cannot be used")


@pytest.mark.parametrize(
    ("why", "fix"), [("Triton finds no C compiler", "apt-get install gcc"), ("ptxas: bad", "GANKIT_KERNELS=off")]
)
def test_kernels_that_do_not_compile(why, fix):
    (one, *_), (problem, *_) = (found := found_gpus(Driver(), lambda *_: why)), gpu_problems(found, "2.13.0")
    assert one.kernels == why
    assert problem.what == f"gankit's kernels do not compile for cuda:0 (NVIDIA H100 80GB HBM3): {why}."
    assert fix in problem.fix


def test_a_missing_triton_is_one_problem_of_all():
    found = found_gpus(Driver(), lambda *_: "Triton is not installed")
    assert all("compile" not in problem.what for problem in gpu_problems(found, "2.13.0"))


@pytest.mark.parametrize(
    ("capability", "runs"), [((9, 0), True), ((8, 9), True), ((12, 0), True), ((7, 0), False), ((6, 1), False)]
)
def test_what_torch_was_built_for(capability, runs):
    assert has_code(BUILT_FOR, *capability) is runs
    assert has_code(["sm_90a"], *capability) is (capability == (9, 0))


def test_a_kernel_is_really_compiled(monkeypatch, tmp_path):
    triton = pytest.importorskip("triton", reason="Triton is not installed")
    with triton.knobs.cache.scope():
        triton.knobs.cache.dir = str(tmp_path)
        assert kernels_fault(9, 0) == ""
    assert list(tmp_path.rglob("pixels.cubin"))
    assert kernels_fault(6, 1) == "they need compute capability 7.5"
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CC", raising=False)
    assert kernels_fault(9, 0) == "Triton finds no C compiler"
    monkeypatch.setattr(gpus, "installed_version", lambda name: None)
    assert kernels_fault(9, 0) == "Triton is not installed"


def test_doctor_shows_both(monkeypatch, capsys):
    found = found_gpus(Driver(), lambda *_: "")
    real = diagnosis.diagnosis()
    made = replace(real, gpus=found, driver="580.1", problems=tuple(gpu_problems(found, "2.13.0")))
    monkeypatch.setattr(diagnosis, "diagnosis", lambda: made)
    assert cli.main(["doctor", "--json"]) == 0
    one, two = json.loads(capsys.readouterr().out)["gpus"]
    assert (one["name"], one["memory"], one["free"]) == ("NVIDIA H100 80GB HBM3", 85 * 10**9, 80 * 10**9)
    assert (two["capability"], two["device"], two["built"], two["kernels"]) == ("6.1", "cuda:1", False, "")
    assert cli.main(["doctor"]) == 0
    out = " ".join(capsys.readouterr().out.split())
    for words in (
        "cuda:0 NVIDIA H100 80GB HBM3, 85.0 GB, of which 80.0 GB are free, compute capability 9.0",
        "gankit's kernels compile",
        "cuda:1 NVIDIA GeForce GTX 1080",
        "driver 580.1",
        "torch 2.13.0 has no code for cuda:1",
    ):
        assert words in out, words
