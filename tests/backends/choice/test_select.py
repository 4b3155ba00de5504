"""The gate, the choice and its memory."""

import json
from dataclasses import replace
from pathlib import Path
from typing import ClassVar
from weakref import WeakKeyDictionary

import pytest
import torch

from gankit import backends
from gankit.backends.base import Backend, Engine, EngineSpec
from gankit.backends.choice import benchmark, cache, candidates, select
from gankit.backends.choice.parity import compare, reference
from gankit.backends.choice.probe import real_tile
from gankit.checkpoints.types import Loaded
from gankit.errors import BackendError, ParityError, UsageError
from gankit.models import facts
from gankit.options import EngineOptions
from gankit.paths import cache_folder
from tests.networks import small_srgan

OPTIONS = {"scale": 2, "channels": 8, "blocks": 1}
LONG = 10**12  # input pixels of a job that takes the slowest fake days


def choose(loaded, *, job_pixels=None, notify=None, **options):
    """``select`` with the engine's options by name."""
    return select.select(loaded, EngineOptions(**options), job_pixels=job_pixels, notify=notify)


class Fake(Backend):
    """Runs the reference, spoilt by noise in the precisions that are named, at a stated pace.

    ``fails`` has the precisions, or the devices, in which it raises, in ``load`` or in ``run``.
    """

    precisions = {"cpu": ("fp32", "bf16")}  # noqa: RUF012

    def __init__(
        self,
        name,
        *,
        noise=(),
        seconds=0.0,
        missing=None,
        slow_start=False,
        nan=False,
        fails=(),
        where="load",
        error=None,
        precisions=None,
    ):
        self.name, self.noise, self.seconds = name, noise, seconds
        self.why, self.slow_start, self.nan, self.loads = missing, slow_start, nan, 0
        self.fails, self.where, self.error, self.engines = fails, where, error or RuntimeError("no luck\nat all"), []
        self.precisions = precisions or self.precisions

    @property
    def pace(self):
        """Seconds that a run is said to take."""
        return 0.001 + self.seconds

    def missing(self, spec):
        return self.why

    def fail(self, where, spec):
        if where == self.where and {spec.precision, spec.device} & {*self.fails}:
            raise self.error

    def open(self, spec):
        self.loads += 1
        self.fail("load", spec)
        self.engines.append(FakeEngine(self, spec))
        return self.engines[-1]


class FakeEngine(Engine):
    results: ClassVar = WeakKeyDictionary()  # computed once

    def __init__(self, backend, spec):
        super().__init__(backend.name, spec)
        self.kind, self.spec, self.closed = backend, spec, False

    def run(self, batch):
        self.kind.fail("run", self.spec)
        full = 255 if batch.dtype == torch.uint8 else 1
        known = self.results.setdefault(self.spec.generator, {})
        if batch.dtype not in known:
            known[batch.dtype] = reference(self.spec.generator, batch.float() / full)
        result = known[batch.dtype]
        if self.precision in self.kind.noise:
            result = result + 0.02 * torch.randn_like(result)
        if self.kind.nan:
            result = result * torch.nan
        return result if full == 1 else (result.clamp(0, 1) * 255).round().to(torch.uint8)

    def close(self):
        self.closed = True


@pytest.fixture(autouse=True)
def own_choices(monkeypatch, tmp_path):
    """No test sees what another chose."""
    monkeypatch.setenv("GANKIT_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def loaded():
    options = {**OPTIONS}
    return Loaded(small_srgan(**options), facts("srgan", options), "0" * 64, Path("net.safetensors"))


@pytest.fixture
def only(monkeypatch):
    """Make these the only backends."""

    def put(*fakes, gpu=False):
        table = {fake.name: fake for fake in fakes}
        monkeypatch.setattr(candidates, "BACKENDS", table)
        monkeypatch.setattr(candidates, "get", table.__getitem__)
        monkeypatch.setattr(select, "get", table.__getitem__)
        monkeypatch.setattr(select, "BUDGET_SECONDS", 1e6)  # a busy machine must not decide these tests
        monkeypatch.setattr(benchmark, "_timed", lambda engine, inputs: (engine.run(*inputs), engine.kind.pace))
        monkeypatch.setattr(candidates, "devices", lambda: ("cuda", "cpu") if gpu else ("cpu",))

    return put


def test_the_fastest_that_passes_is_chosen(loaded, only):
    slow, fast, wrong = Fake("slow", seconds=0.1), Fake("fast"), Fake("wrong", noise=("fp32", "bf16"))
    only(slow, fast, wrong)
    selection = choose(loaded)
    assert selection.engine.backend == "fast"
    assert not selection.engine.closed
    assert selection.parity.passes()
    assert "fast" in selection.summary
    assert "wrong" not in selection.summary  # not a slower competitor
    rows = {row.backend: row for row in selection.measured}
    assert rows["wrong"].parity.psnr < 45
    assert "below 45 dB" in rows["wrong"].remark


def test_the_choice_is_cached_and_reported(loaded, only):
    lines, fake = [], Fake("fake")
    only(fake)
    choose(loaded, notify=lines.append)
    assert any(line.startswith("chose fake") for line in lines)
    before = fake.loads
    again = choose(loaded)
    assert (fake.loads, again.measured) == (before + 1, ())
    assert "from the cache" in again.summary


@pytest.mark.parametrize(
    ("name", "value"), [("installed", lambda: {"torch": "99"}), ("sources", lambda *packages: "other code")]
)
def test_other_versions_or_code_measure_again(name, value, loaded, only, monkeypatch):
    only(Fake("fake"))
    choose(loaded)
    monkeypatch.setattr(cache, name, value)
    assert choose(loaded).measured


def test_spoilt_memory_is_measured_again(loaded, only):
    only(Fake("fake"))
    choose(loaded)
    (path,) = (cache_folder() / "choices").iterdir()
    good = json.loads(path.read_text())
    for bad in ({"backend": 3}, [], {**good, "psnr": "high"}, {**good, "unmeasured": [1]}, {**good, "new": 1}):
        path.write_text(json.dumps(bad))
        assert choose(loaded).measured


def test_a_cache_that_cannot_be_written_does_no_harm(loaded, only, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("GANKIT_CACHE", str(tmp_path / "file"))
    only(Fake("fake"))
    assert choose(loaded).engine.backend == "fake"


def test_failing_precision_is_stepped_up_and_said(loaded, only):
    lines = []
    only(Fake("fake", noise=("bf16",)))
    selection = choose(loaded, backend="fake", precision="bf16", notify=lines.append)
    assert selection.engine.precision == "fp32"
    assert any("bf16" in line and "below 45 dB; using fp32 instead" in line for line in lines)


@pytest.mark.parametrize("fake", [Fake("fake", noise=("bf16", "fp32")), Fake("fake", nan=True)])
def test_nothing_that_passes_is_refused_with_the_figures(fake, loaded, only):
    only(fake)
    with pytest.raises(ParityError, match=r"no engine reaches 45 dB.*fake") as caught:
        choose(loaded)
    assert caught.value.exit_code == 1


def test_a_missing_backend_is_passed_over_by_auto_and_named_when_asked_for(loaded, only):
    only(Fake("here"), Fake("away", missing="not installed: pip install away"))
    assert choose(loaded).engine.backend == "here"
    with pytest.raises(BackendError, match="'away': not installed: pip install away"):
        choose(loaded, backend="away")


@pytest.mark.parametrize("where", ["load", "run"])
def test_a_backend_that_breaks_is_out_and_said(where, loaded, only):
    lines, broken = [], Fake("broken", fails=("fp32", "bf16"), where=where, error=ImportError("libfoo.so\nis gone"))
    only(broken, Fake("good"))
    selection = choose(loaded, precision="fp32", notify=lines.append)
    assert selection.engine.backend == "good"
    assert all(engine.closed for engine in broken.engines)
    assert "broken fp32 did not run: libfoo.so" in lines
    assert "broken" not in selection.summary


@pytest.mark.parametrize("where", ["load", "run"])
def test_a_precision_that_breaks_is_stepped_up(where, loaded, only):
    lines, fake = [], Fake("fake", fails=("bf16",), where=where)
    only(fake)
    selection = choose(loaded, precision="bf16", notify=lines.append)
    assert selection.engine.precision == "fp32"
    assert "fake bf16 did not run: no luck; using fp32 instead" in lines


def test_all_broken_is_one_line(loaded, only):
    only(Fake("one", fails=("fp32",)), Fake("two", fails=("fp32",), where="run", error=MemoryError()))
    with pytest.raises(BackendError, match=r"one fp32 did not run: no luck; two fp32 did not run: MemoryError$"):
        choose(loaded, precision="fp32")


def test_a_cached_engine_that_breaks_is_measured_again(loaded, only, monkeypatch, tmp_path):
    fake = Fake("fake")
    only(fake, Fake("other", seconds=0.05))
    assert choose(loaded).engine.backend == "fake"
    fake.fails = ("fp32", "bf16")
    selection = choose(loaded)
    assert selection.engine.backend == "other"
    assert selection.measured
    assert not choose(loaded).measured


def test_a_cached_engine_that_breaks_and_cannot_be_dropped(loaded, only, monkeypatch):
    fake = Fake("fake")
    only(fake, Fake("other", seconds=0.05))
    choose(loaded)

    def refuse(*args, **kwargs):
        raise PermissionError("read-only")

    monkeypatch.setattr(Path, "unlink", refuse)
    monkeypatch.setattr(Path, "replace", refuse)
    fake.fails = ("fp32", "bf16")
    assert choose(loaded).engine.backend == "other"


class WithKernels(Fake):
    """On a GPU: breaks, or is wrong, or is slower, with gankit's kernels or with torch's."""

    own_kernels = True

    def __init__(self, *, breaks=(), wrong=(), slow=(), **options):
        super().__init__("own", precisions={"cuda": ("fp32", "fp16")}, **options)
        self.breaks, self.wrong, self.slow = breaks, wrong, slow

    def open(self, spec):
        if spec.kernels in self.breaks:
            raise RuntimeError("PTX was compiled with an unsupported toolchain")
        engine = super().open(spec)
        noise = ["fp16"] if spec.kernels in self.wrong else []
        engine.kind = Fake("own", seconds=0.05 if spec.kernels in self.slow else 0.0, noise=noise)
        return engine


@pytest.mark.parametrize("slow_start", [False, True])
def test_kernels_that_break_are_left_out(loaded, only, slow_start):
    """Also where the backend was asked for by name: the same engine without them, and that is said."""
    said = []
    only(WithKernels(breaks=[True], slow_start=slow_start), gpu=True)
    selection = choose(loaded, backend="own", notify=said.append)
    assert not selection.engine.spec.kernels
    assert selection.engine.precision == "fp16"
    assert "own fp16 with torch's kernels" in selection.summary
    failure = "own fp16 on cuda did not run: PTX was compiled with an unsupported toolchain"
    assert f"{failure}; using torch's kernels instead" in said
    again = choose(loaded, backend="own")
    assert not again.measured
    assert not again.engine.spec.kernels, "cached"


def test_the_faster_kernels_win(loaded, only):
    only(WithKernels(slow=[True]), gpu=True)
    selection = choose(loaded, backend="own")
    assert not selection.engine.spec.kernels
    assert [str(row) for row in selection.measured] == ["own fp16", "own fp16 with torch's kernels"]
    cache.clear()
    only(WithKernels(slow=[False]), gpu=True)
    selection = choose(loaded, backend="own")
    assert selection.engine.spec.kernels
    assert "torch's kernels" in selection.summary  # the slower one


def test_wrong_kernels_are_out_and_the_others_stay(loaded, only):
    only(WithKernels(wrong=[True]), gpu=True)
    selection = choose(loaded, backend="own")
    assert selection.parity.passes()
    assert selection.engine.precision == "fp32" or not selection.engine.spec.kernels


def test_kernels_that_are_switched_off_are_not_tried(loaded, only, monkeypatch):
    monkeypatch.setenv("GANKIT_KERNELS", "off")
    only(WithKernels(breaks=[True]), gpu=True)
    selection = choose(loaded, backend="own")
    assert len(selection.measured) == 1
    assert "torch's kernels" not in selection.summary


def test_a_slow_start_is_for_long_jobs(loaded, only):
    quick, slow = Fake("quick", seconds=0.05), Fake("slow", slow_start=True)
    only(slow, quick)
    assert choose(loaded, job_pixels=1000).engine.backend == "quick"
    assert choose(loaded, job_pixels=None).engine.backend == "quick"
    assert slow.loads == 0


def test_a_slow_start_enters_a_long_job_whatever_the_time(loaded, only, monkeypatch):
    only(Fake("slow", slow_start=True), Fake("quick", seconds=0.05))
    monkeypatch.setattr(select, "BUDGET_SECONDS", 0.0)
    assert choose(loaded, job_pixels=LONG).engine.backend == "slow"


def test_a_small_job_after_a_long_one_does_not_compile(loaded, only):
    quick, slow = Fake("quick", seconds=0.05), Fake("slow", slow_start=True)
    only(slow, quick)
    choose(loaded, job_pixels=LONG)
    again = choose(loaded, job_pixels=1000)
    assert (again.engine.backend, again.measured, slow.loads) == ("quick", (), 1)


def test_a_long_job_after_a_small_one_tries_the_slow_start_and_caches_it(loaded, only):
    quick, slow = Fake("quick", seconds=0.05), Fake("slow", slow_start=True)
    only(slow, quick)
    choose(loaded, job_pixels=1000)
    long = choose(loaded, job_pixels=LONG)
    assert (long.engine.backend, slow.loads) == ("slow", 1)
    assert quick.engines[-1].closed
    again = choose(loaded, job_pixels=LONG)
    assert (again.engine.backend, again.measured, slow.loads) == ("slow", (), 2)


def test_a_slow_start_that_does_not_win_is_not_tried_again(loaded, only):
    slow = Fake("slow", slow_start=True, seconds=0.05)
    only(slow, Fake("quick"))
    for _ in range(2):
        assert choose(loaded, job_pixels=LONG).engine.backend == "quick"
    assert slow.loads == 1


def test_a_slow_start_that_was_asked_for_is_for_any_job(loaded, only):
    only(Fake("slow", slow_start=True), Fake("quick"))
    choose(loaded, backend="slow", job_pixels=LONG)
    again = choose(loaded, backend="slow", job_pixels=1000)
    assert (again.engine.backend, again.measured) == ("slow", ())


def test_a_slow_start_is_better_than_nothing(loaded, only):
    slow = Fake("slow", slow_start=True)
    only(slow, Fake("quick", nan=True))
    assert choose(loaded, job_pixels=1000).engine.backend == "slow"
    assert choose(loaded, job_pixels=1000).measured == ()


def test_measuring_ends_when_its_time_is_up_and_the_next_runs_do_the_rest(loaded, only, monkeypatch):
    first, second, third = Fake("first", seconds=0.05), Fake("second"), Fake("third", seconds=0.1)
    only(first, second, third)
    monkeypatch.setattr(select, "BUDGET_SECONDS", 0.0)
    selection = choose(loaded)
    assert (selection.engine.backend, second.loads, third.loads) == ("first", 0, 0)
    selection = choose(loaded)
    assert (selection.engine.backend, second.loads, third.loads) == ("second", 1, 0)
    selection = choose(loaded)
    assert (selection.engine.backend, third.loads, first.loads) == ("second", 1, 2)
    assert choose(loaded).measured == ()


def test_an_unfinished_choice_that_no_longer_runs(loaded, only, monkeypatch):
    first, second, third = Fake("first", seconds=0.05), Fake("second"), Fake("third", nan=True)
    only(first, second, third)
    monkeypatch.setattr(select, "BUDGET_SECONDS", 0.0)
    choose(loaded)
    assert choose(loaded).engine.backend == "second"
    second.nan = True
    assert choose(loaded).engine.backend == "first"


def test_backends_are_measured_by_rank(loaded, only):
    another, late, early = Fake("another"), Fake("late"), Fake("early")
    early.rank, late.rank = 0, 1
    only(another, late, early)
    assert [row.backend for row in choose(loaded).measured] == ["early", "late", "another"]


GPU = {"cpu": ("fp32", "bf16"), "cuda": ("fp32", "bf16", "fp16")}


def test_auto_takes_the_gpu_and_nothing_else_where_it_can(loaded, only):
    gpu, cpu = Fake("gpu", precisions=GPU), Fake("cpu")
    only(cpu, gpu, gpu=True)
    engine = choose(loaded).engine
    assert (engine.backend, engine.precision, engine.device, cpu.loads) == ("gpu", "fp16", "cuda", 0)
    assert choose(loaded).engine.device == "cuda"


def test_a_backend_for_the_cpu_runs_there_on_a_machine_with_a_gpu(loaded, only):
    only(Fake("cpu"), Fake("gpu", precisions=GPU), gpu=True)
    assert choose(loaded, backend="cpu").engine.device == "cpu"
    with pytest.raises(BackendError, match=r"'cpu': does not run on cuda; use another --backend or --device"):
        candidates.candidates(EngineSpec(loaded.generator, loaded.facts), EngineOptions(backend="cpu", device="cuda"))


def test_the_cpu_where_nothing_runs_on_the_gpu(loaded, only):
    lines, fake = [], Fake("fake", precisions=GPU, fails=("cuda",), where="run")
    only(fake, gpu=True)
    selection = choose(loaded, notify=lines.append)
    assert (selection.engine.backend, selection.engine.device) == ("fake", "cpu")
    assert "fake fp16 on cuda did not run: no luck; using bf16 instead" in lines
    assert "fake fp32 on cuda did not run: no luck" in lines
    before = fake.loads
    again = choose(loaded)
    assert (again.engine.device, fake.loads) == ("cpu", before + 1)


def test_unknown_device(loaded):
    with pytest.raises(UsageError, match="unknown device 'tpu'"):
        choose(loaded, device="tpu")


def test_the_real_backends(loaded):
    selection = choose(loaded)
    assert selection.engine.backend in backends.BACKENDS
    assert selection.parity.psnr > 45
    tile = real_tile()
    assert compare(selection.engine.run(tile), reference(loaded.generator, tile)).passes()


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 7])
def test_a_real_tile_for_any_number_of_channels(channels):
    tile, colours = real_tile(channels), real_tile()
    assert tile.shape == (1, channels, 160, 192)
    assert tile.is_contiguous(memory_format=torch.channels_last)
    for plane in range(channels if channels > 1 else 0):
        assert tile[:, plane].equal(colours[:, plane % 3])


def test_a_real_tile_of_a_multiple():
    assert real_tile(3, 7).shape == (1, 3, 154, 189)


def test_a_generator_of_four_channels(loaded, only):
    only(Fake("fake"))
    net = torch.nn.Conv2d(4, 4, 3, padding=1).requires_grad_(False)
    four = replace(loaded, generator=net, facts=replace(loaded.facts, channels=4, scale=1))
    assert choose(four).parity.passes()


def test_parity_of_spoilt_images():
    x = torch.rand(1, 3, 8, 8)
    assert compare(x, x).psnr == float("inf")
    assert compare(x + 0.1, x).psnr == pytest.approx(
        -10 * torch.log10(((x + 0.1).clamp(0, 1) - x).double().pow(2).mean())
    )
    assert not compare(x * torch.nan, x).passes()
    with pytest.raises(ValueError, match="shapes differ"):
        compare(x, x[..., :4])
