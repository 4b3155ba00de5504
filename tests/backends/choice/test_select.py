"""The gate, the choice and its memory."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import ClassVar
from weakref import WeakKeyDictionary

import pytest
import torch

from gankit import backends
from gankit.backends.base import Backend, Engine, EngineSpec
from gankit.backends.choice import benchmark, cache, candidates, lines, select
from gankit.backends.choice.parity import compare, reference
from gankit.backends.choice.probe import real_tile
from gankit.backends.choice.synthetic import contrast, faint_images, synthetic_images
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
        self.kind, self.spec, self.closed, self.runs = backend, spec, False, 0

    def run(self, batch):
        self.runs += 1
        self.kind.fail("run", self.spec)
        full = 255 if batch.dtype == torch.uint8 else 1
        known = self.results.setdefault(self.spec.generator, {})
        key = batch.dtype, hashlib.sha256(batch.numpy().tobytes()).hexdigest()
        if key not in known:
            known[key] = reference(self.spec.generator, batch.float() / full)
        result = known[key]
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
    for bad in ({"backend": 3}, [], {**good, "psnr": "high"}, {**good, "artefact": 1}, {**good, "new": 1}):
        lines = []
        path.write_text(json.dumps(bad))
        assert choose(loaded, notify=lines.append).measured
        assert f"{path}: this cached choice of a backend is damaged; measuring again" in lines


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
    fake.fails, lines = ("fp32", "bf16"), []
    selection = choose(loaded, notify=lines.append)
    assert selection.engine.backend == "other"
    assert selection.measured
    assert "the cached choice, fake fp32, did not load (no luck); measuring again" in lines
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


def test_measuring_ends_when_its_time_is_up_and_the_choice_is_final(loaded, only, monkeypatch):
    lines, first, second, third = [], Fake("first", seconds=0.05), Fake("second"), Fake("third", seconds=0.1)
    only(first, second, third)
    monkeypatch.setattr(select, "BUDGET_SECONDS", 0.0)
    selection = choose(loaded, notify=lines.append)
    assert (selection.engine.backend, second.loads, third.loads) == ("first", 0, 0)
    (line,) = (line for line in lines if line.startswith("not measured"))
    assert "second fp32, third fp32" in line
    assert "gankit doctor --forget" in line
    monkeypatch.setattr(select, "BUDGET_SECONDS", 1e6)
    lines.clear()
    again = choose(loaded, notify=lines.append)
    assert (again.engine.backend, again.measured, second.loads, third.loads, lines) == ("first", (), 0, 0, [])
    cache.clear()
    assert choose(loaded).engine.backend == "second"


def test_a_busy_machine_leaves_out_nothing(loaded, only, monkeypatch):
    """The clock on the wall runs on while other programs have the processor."""
    only(Fake("first"), Fake("second"), Fake("third"))
    clock = iter(range(0, 10**9, 1000))
    monkeypatch.setattr(benchmark.time, "perf_counter", lambda: float(next(clock)))
    monkeypatch.setattr(select, "BUDGET_SECONDS", 500.0)
    assert len(choose(loaded).measured) == 3


def test_time_that_is_up_does_not_end_the_search_for_one_that_passes(loaded, only, monkeypatch):
    only(Fake("first", nan=True), Fake("second", fails=("fp32",)), Fake("third"), Fake("fourth"))
    monkeypatch.setattr(select, "BUDGET_SECONDS", 0.0)
    assert choose(loaded).engine.backend == "third"


def test_an_engine_that_is_far_behind_runs_no_more(loaded, only):
    fast, slow, near = Fake("fast"), Fake("slow", seconds=0.02), Fake("near", seconds=0.002)
    only(fast, slow, near)
    selection = choose(loaded)
    assert slow.engines[0].runs == 2, "the real image for the parity, and once for the time"
    assert fast.engines[0].runs > near.engines[0].runs > 6
    assert "slow fp32" in selection.summary


def test_the_line_compares_and_names_no_loser_as_the_fastest(loaded, only):
    lines = []
    only(Fake("slow", seconds=0.1), Fake("fast"), Fake("middle", seconds=0.002), Fake("wrong", nan=True))
    choose(loaded, notify=lines.append)
    (line,) = (line for line in lines if line.startswith("chose"))
    assert line == "chose fast fp32, identical to fp32, 12.3 MP/s of input; slower: middle fp32 4.10, slow fp32 0.122"


@pytest.mark.parametrize(("speed", "text"), [(12.345, "12.3"), (0.4711, "0.471"), (0.0123, "0.0123"), (1234.5, "1234")])
def test_speeds_have_three_digits(speed, text):
    measured = benchmark.Measured("eager", "fp32", "cpu", speed, None)
    assert lines.speed(measured) == text


def test_the_line_names_what_is_for_long_jobs(loaded, only):
    lines = []
    only(Fake("slow", slow_start=True), Fake("quick"))
    choose(loaded, notify=lines.append)
    assert any(line.startswith("not measured: slow fp32, which takes minutes to start") for line in lines)
    lines.clear()
    choose(loaded, job_pixels=LONG, notify=lines.append)
    assert not any("not measured" in line for line in lines)


def spoil(engine, image, by):
    """Add a value to the engine's result for one synthetic image, in floats; the timed inputs are bytes."""
    run = engine.run
    engine.run = lambda batch: run(batch) + by if batch.equal(synthetic_images()[image]) else run(batch)
    return engine


class Flat(Fake):
    """Wrong where the image is nearly flat, as InstanceNorm is in a narrow precision."""

    def __init__(self, name, image, precisions=("bf16",)):
        super().__init__(name)
        self.image, self.wrong = image, precisions

    def open(self, spec):
        engine = super().open(spec)
        return spoil(engine, self.image, 0.1) if spec.precision in self.wrong else engine


@pytest.mark.parametrize("image", synthetic_images())
def test_a_precision_that_fails_on_one_synthetic_image_is_out(loaded, only, image):
    lines = []
    only(Flat("flat", image))
    selection = choose(loaded, precision="bf16", notify=lines.append)
    assert selection.engine.precision == "fp32"
    assert any(f" dB from fp32 on {image}, below 45 dB; using fp32 instead" in line for line in lines)
    assert selection.parity.passes()


def whole_image(loaded):
    """The same model, as one that takes the statistics of the whole image."""
    return replace(loaded, facts=replace(loaded.facts, tileable=False, halo=None))


@pytest.mark.parametrize("image", ["a black image", "a white image", "noise of levels 0 and 1"])
def test_a_precision_that_fails_on_flat_images_alone_runs_the_others(loaded, only, image):
    lines = []
    only(Flat("flat", image))
    selection = choose(whole_image(loaded), precision="bf16", notify=lines.append)
    assert selection.engine.precision == "bf16"
    assert selection.contrast == 2
    assert selection.parity.passes()
    assert "images of contrast below 2 of 255 in fp32" in selection.summary
    again = choose(whole_image(loaded), precision="bf16")
    assert (again.contrast, "from the cache" in again.summary) == (2, True)
    assert "images of contrast below 2 of 255 in fp32" in again.summary


def test_a_precision_that_fails_at_a_low_contrast_keeps_the_high_ones(loaded, only):
    class Faint(Fake):
        """Wrong below a standard deviation of 8 levels."""

        def open(self, spec):
            engine = super().open(spec)
            run = engine.run

            def wrong(batch):
                flat = batch.is_floating_point() and contrast(batch[:1]) < 8 and spec.precision == "bf16"
                return run(batch) + 0.1 if flat else run(batch)

            engine.run = wrong
            return engine

    only(Faint("faint"))
    assert choose(whole_image(loaded), precision="bf16").contrast == 16


@pytest.mark.parametrize("image", ["a step", "one bright dot"])
def test_a_precision_that_fails_on_an_image_of_contrast_is_out(loaded, only, image):
    only(Flat("flat", image))
    assert contrast(synthetic_images()[image]) > 2
    selection = choose(whole_image(loaded), precision="bf16")
    assert (selection.engine.precision, selection.contrast) == (("bf16", 16) if image != "a step" else ("fp32", 0))


def test_fp32_that_fails_on_a_synthetic_image_is_out(loaded, only):
    only(Flat("flat", "one bright dot", ("fp32",)))
    with pytest.raises(ParityError, match="on one bright dot, below 45 dB"):
        choose(loaded)


def test_the_report_gives_the_worst(loaded, only):
    class Worse(Fake):
        def open(self, spec):
            return spoil(super().open(spec), "a step", 1e-3)

    lines = []
    only(Worse("fake"))
    selection = choose(loaded, notify=lines.append)
    assert selection.parity.image == "a step"
    assert 55 < selection.parity.psnr < 65
    assert "dB from fp32 on a step" in selection.summary
    assert choose(loaded).parity == selection.parity, "cached"


class Amplifier(torch.nn.Module):
    """Divides by the standard deviation again and again, so that fp32 does not determine flat images."""

    def forward(self, x):
        values = x * 0.3 + torch.linspace(0, 1e-9, x.shape[-1], dtype=x.dtype) + 0.3
        for _ in range(4):
            values = torch.nn.functional.instance_norm(values) + 0.7
        return (values - 0.7) * 0.1 + 0.5


class AmplifierInAFile(Amplifier):
    """As one that another runtime runs from a file: its weights are bytes, and it computes in fp32."""

    def __init__(self):
        super().__init__()
        self.register_buffer("file", torch.zeros(4, dtype=torch.uint8))

    def forward(self, x):
        return super().forward(x.float())


@pytest.mark.parametrize("amplifier", [Amplifier, AmplifierInAFile])
def test_an_image_that_fp32_does_not_determine_counts_for_narrow_precisions_only(loaded, only, amplifier):
    """The module in fp64 is far away as well, so that no engine in fp32 could pass, not even the reference."""
    lines, flat = [], replace(loaded, module=amplifier(), facts=replace(loaded.facts, scale=1))
    only(Flat("flat", "a black image", ("fp32", "bf16")))
    selection = choose(flat, precision="bf16", notify=lines.append)
    assert selection.engine.precision == "fp32"
    assert selection.parity.passes()
    assert any("flat bf16 failed the parity check" in line and "on a black image" in line for line in lines)


@pytest.mark.slow
def test_the_real_instance_norm_on_flat_images():
    """A CycleGAN in a typed fp16 module differs by many levels on a black image; fp32 passes."""
    from gankit_export.precision import typed
    from gankit_export.rewrites import for_inference

    from gankit.backends.choice.probe import Probe
    from gankit.backends.modules import ModuleEngine
    from gankit.checkpoints import open_model

    model = open_model("nuclei-stain", direction="AtoB")
    spec = EngineSpec(model.generator, model.facts, threads=1)
    probe = Probe.of(spec, (64, 64))
    half = ModuleEngine("eager", replace(spec, precision="fp16"), typed(for_inference(model.generator), "fp16"))
    half._dtype = torch.float32  # the module converts its input and its output itself
    assert probe.parity_on_timed(half).passes(), "a photograph does not show it"
    parity = probe.parity(half)
    assert not parity.passes()
    assert parity.image in synthetic_images()
    with backends.get("eager").load(spec) as engine:
        assert probe.parity(engine).passes()


def test_an_engine_that_returns_another_type_for_bytes_is_out(loaded, only):
    class Floats(Fake):
        def open(self, spec):
            engine = super().open(spec)
            run = engine.run
            engine.run = lambda batch: run(batch).float() / (255 if batch.dtype == torch.uint8 else 1)
            return engine

    only(Floats("floats"))
    with pytest.raises(BackendError, match=r"floats fp32 returned float32 and not uint8"):
        choose(loaded)


def test_synthetic_images_fit_the_model():
    for channels, multiple, minimum, shape in ((1, 1, 1, (48, 64)), (4, 32, 1, (64, 64)), (3, 4, 70, (72, 72))):
        images = synthetic_images(channels, multiple, minimum)
        assert len(images) == 5
        for image in images.values():
            assert image.shape == (1, channels, *shape)
            assert image.min() >= 0
            assert image.max() <= 1
    assert synthetic_images()["noise of levels 0 and 1"].mul(255).unique().tolist() == [0, 1]
    assert synthetic_images()["one bright dot"].sum() == 3


def test_a_choice_below_the_gate_is_not_used(loaded, only):
    lines, fake = [], Fake("fake")
    only(fake)
    choose(loaded)
    (path,) = (cache.cache_folder() / "choices").iterdir()
    good = json.loads(path.read_text())
    for psnr in (12.0, float("nan")):
        path.write_text(json.dumps({**good, "psnr": psnr}))
        assert choose(loaded, notify=lines.append).measured
        assert "the cached choice, fake fp32, is below 45 dB; measuring again" in lines
        lines.clear()


def test_a_choice_holds_for_the_file_that_was_measured(loaded, only):
    class Exported(Fake):
        artefact = "aa" * 32

        def open(self, spec):
            engine = super().open(spec)
            engine.artefact = self.artefact
            return engine

    lines, fake = [], Exported("fake")
    only(fake)
    choose(loaded)
    assert not choose(loaded, notify=lines.append).measured
    assert lines == []
    fake.artefact = "bb" * 32
    assert choose(loaded, notify=lines.append).measured
    assert "the cached choice, fake fp32, was measured with another exported file; measuring again" in lines
    assert fake.engines[-2].closed
    assert not choose(loaded).measured


@pytest.mark.slow
@pytest.mark.parametrize("name", ["onnxruntime", "openvino"])
def test_a_cached_file_that_was_changed_on_disk_is_not_run(loaded, name, monkeypatch):
    """A valid file with one changed weight, under the name and with the cached parity of the one that was measured."""
    import onnx

    if why := backends.get(name).supports(EngineSpec(loaded.generator, loaded.facts)):
        pytest.skip(why)
    choose(loaded, backend=name).engine.close()
    (path,) = (cache.cache_folder() / "onnx").iterdir()
    model = onnx.load(path)
    weight = max(model.graph.initializer, key=lambda item: len(item.raw_data))
    weight.raw_data = (torch.frombuffer(bytearray(weight.raw_data), dtype=torch.float32) * 3).numpy().tobytes()
    onnx.save(model, path)
    lines = []
    selection = choose(loaded, backend=name, notify=lines.append)
    assert lines[0] == f"{path}: this cached file has changed since gankit wrote it; exporting the model again"
    tile = real_tile()
    assert compare(selection.engine.run(tile), reference(loaded.generator, tile)).psnr > 60
    assert len(list((cache.cache_folder() / "onnx").iterdir())) == 1


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
    four = replace(loaded, module=net, facts=replace(loaded.facts, channels=4, scale=1))
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


def test_faint_images_have_the_contrast_that_they_are_named_for():
    from gankit.backends.choice.probe import real_tile

    found = faint_images(real_tile(3, 1, (48, 64)))
    assert [name.split()[-1] for name in found] == ["2", "2", "16", "16"]
    for name, image in found.items():
        least = float(name.split()[-1])
        assert least <= contrast(image) < 1.3 * least
        assert image.mul(255).sub(image.mul(255).round()).abs().max() < 1e-3
        assert 0 <= image.min() <= image.max() <= 1
