"""One launch or several for a norm in channels_last: the environment variable, and measurements on a pretended GPU."""

import pytest
import torch

triton = pytest.importorskip("triton", reason="Triton is not installed: pip install '.[test]' installs it on Linux")

from gankit_kernels.instance_norm import NormSpec  # noqa: E402
from gankit_kernels.on_cuda import instance_norm  # noqa: E402
from gankit_kernels.on_cuda.norm_call import NormPlan  # noqa: E402
from gankit_kernels.on_cuda.norm_choice import VARIABLE, Choice, _name  # noqa: E402

from gankit.backends.cuda.kernels import with_kernels  # noqa: E402
from gankit.errors import UsageError  # noqa: E402
from tests.kernels.compiled import launches  # noqa: E402

SEVERAL, ONE = NormPlan((), (8,)), NormPlan(())
GPU = torch.device("cuda", 0)


class Gpu:
    """A pretended GPU: its clock advances by the time that each plan takes, and by its head start."""

    def __init__(self, several: float, one: float) -> None:
        self.times = {SEVERAL: several, ONE: one}
        self.clock, self.ran, self.name, self.capturing = 0.0, [], "H100", False

    def run(self, plan: NormPlan) -> None:
        assert not self.capturing
        self.ran.append(plan)
        self.clock += self.times[plan] if len(self.ran) > 2 else 1000  # the first two compile

    def install(self, monkeypatch) -> None:
        gpu = self

        class Event:
            def __init__(self, *, enable_timing: bool) -> None:
                assert enable_timing

            def record(self) -> None:
                self.at = gpu.clock

            def elapsed_time(self, later) -> float:
                assert gpu.synchronized == gpu.clock, "the events have not occurred yet"
                return later.at - self.at

        class Stream:
            def synchronize(self) -> None:
                gpu.synchronized = gpu.clock

        gpu.synchronized = -1.0
        monkeypatch.setattr(torch.cuda, "Event", Event)
        monkeypatch.setattr(torch.cuda, "current_stream", Stream)
        monkeypatch.setattr(torch.cuda, "_sleep", lambda cycles: setattr(gpu, "clock", gpu.clock + 1e3))
        monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: gpu.capturing)
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: gpu.name)
        _name.cache_clear()


@pytest.fixture(autouse=True)
def nothing_known(monkeypatch):
    monkeypatch.delenv(VARIABLE, raising=False)
    instance_norm.plan.cache_clear()
    yield
    instance_norm.plan.cache_clear()
    _name.cache_clear()


@pytest.mark.parametrize(("several", "one", "faster"), [(3.0, 2.0, ONE), (2.0, 3.0, SEVERAL), (2.0, 2.0, SEVERAL)])
def test_the_faster_one_is_measured_once(monkeypatch, several, one, faster):
    gpu, choice = Gpu(several, one), Choice(SEVERAL, ONE)
    gpu.install(monkeypatch)
    assert choice.known(GPU) is None
    assert choice.measure(GPU, gpu.run) is faster
    assert gpu.ran[:2] == [SEVERAL, ONE], "both are compiled before anything is timed"
    assert gpu.ran.count(SEVERAL) == gpu.ran.count(ONE)
    assert choice.known(GPU) is faster


def test_one_slow_round_decides_nothing(monkeypatch):
    """Another process may use the GPU."""
    gpu, choice = Gpu(3.0, 2.0), Choice(SEVERAL, ONE)
    gpu.install(monkeypatch)

    def run(plan: NormPlan) -> None:
        gpu.run(plan)
        gpu.clock += 100.0 if len(gpu.ran) in range(6, 9) else 0.0

    assert choice.measure(GPU, run) is ONE


def test_every_kind_of_gpu_is_measured(monkeypatch):
    gpu, choice = Gpu(3.0, 2.0), Choice(SEVERAL, ONE)
    gpu.install(monkeypatch)
    assert choice.measure(GPU, gpu.run) is ONE
    gpu.name, gpu.times = "T4", {SEVERAL: 2.0, ONE: 3.0}
    other = torch.device("cuda", 1)
    assert choice.known(other) is None
    assert choice.measure(other, gpu.run) is SEVERAL
    assert choice.known(GPU) is ONE


def test_nothing_is_measured_into_a_graph(monkeypatch):
    gpu, choice = Gpu(3.0, 2.0), Choice(SEVERAL, ONE)
    gpu.install(monkeypatch)
    gpu.capturing = True
    assert choice.known(GPU) is SEVERAL
    gpu.capturing = False
    assert choice.known(GPU) is None, "a graph that was recorded without a measurement decides nothing"
    choice.measure(GPU, gpu.run)
    gpu.capturing = True
    assert choice.known(GPU) is ONE


def kernels(*calls: NormSpec) -> list[str]:
    """The kernels that calls launch on the CPU's tensors, which are recorded and not run."""
    x = torch.empty((8, 256, 40, 41), dtype=torch.float16, memory_format=torch.channels_last)

    def run() -> None:
        for spec in calls:
            instance_norm.launch(x, torch.empty(256), torch.empty(256), x, spec)

    return [launch.name.removeprefix("channels_last.") for launch in launches(run)]


USUAL = ["statistics", "apply"]


@pytest.mark.parametrize(("word", "names"), [("on", ["alone"]), ("1", ["alone"]), ("off", USUAL), ("", USUAL)])
def test_the_environment_variable(monkeypatch, word, names):
    monkeypatch.setenv(VARIABLE, word)
    spec = NormSpec("relu", pad=1)
    assert kernels(spec, spec) == 2 * names
    assert kernels(NormSpec("relu", whole=True)) == ["planes.statistics", "apply"], "one group has no other way"


def test_an_unknown_word(monkeypatch):
    monkeypatch.setenv(VARIABLE, "maybe")
    with pytest.raises(ValueError, match=f"{VARIABLE} must be on or off, not 'maybe'"):
        kernels(NormSpec())
    with pytest.raises(UsageError, match=f"{VARIABLE} must be on or off, not 'maybe'"):
        with_kernels(torch.nn.Identity())


def test_a_launch_measures_where_it_may(monkeypatch):
    """Both ways run on the tensors of the first call, and afterwards the faster one alone."""
    found: list[NormPlan] = []

    def measure(self, device, run):
        for plan in (self._usual, self._other):
            run(plan)
        found.append(self._other)
        return self._other

    monkeypatch.setattr(Choice, "known", lambda self, device: found[0] if found else None)
    monkeypatch.setattr(Choice, "measure", measure)
    assert kernels(NormSpec(), NormSpec()) == [*USUAL, "alone", "alone", "alone"]
