"""The gate, the choice and its memory."""

import json
import time
from pathlib import Path

import pytest
import torch

from gankit import backends
from gankit.backends import choose, remembered
from gankit.backends.base import Backend, Engine
from gankit.backends.parity import compare, reference
from gankit.checkpoints.types import Loaded
from gankit.errors import BackendError, ParityError, UsageError
from gankit.models import facts
from tests.networks import small_srgan

OPTIONS = {"scale": 2, "channels": 8, "blocks": 1}


class Fake(Backend):
    """Runs the reference, spoilt by noise in the precisions that are named, at a chosen pace."""

    precisions = {"cpu": ("fp32", "bf16")}  # noqa: RUF012

    def __init__(self, name, *, noise=(), seconds=0.0, missing=None, slow_start=False, nan=False):
        self.name, self.noise, self.seconds = name, noise, seconds
        self.why, self.slow_start, self.nan, self.loads = missing, slow_start, nan, 0

    def missing(self, device="cpu"):
        return self.why

    def load(self, request):
        self.loads += 1
        return FakeEngine(self, request)


class FakeEngine(Engine):
    def __init__(self, backend, request):
        self.backend, self.precision, self.device = backend.name, request.precision, request.device
        self.kind, self.request, self.closed = backend, request, False

    def run(self, batch):
        time.sleep(self.kind.seconds)
        full = 255 if batch.dtype == torch.uint8 else 1
        result = reference(self.request.generator, batch.float() / full)
        if self.precision in self.kind.noise:
            result = result + 0.02 * torch.randn_like(result)
        if self.kind.nan:
            result = result * torch.nan
        return result if full == 1 else (result.clamp(0, 1) * 255).round().to(torch.uint8)

    def close(self):
        self.closed = True


@pytest.fixture
def loaded(request):
    options = {**OPTIONS}
    return Loaded(small_srgan(**options), facts("srgan", options), request.node.name, Path("net.safetensors"))


@pytest.fixture
def only(monkeypatch):
    """Make these the only backends."""

    def put(*fakes):
        table = {fake.name: fake for fake in fakes}
        monkeypatch.setattr(choose, "BACKENDS", table)
        monkeypatch.setattr(choose, "get", table.__getitem__)
        monkeypatch.setattr(choose, "BUDGET_SECONDS", 1e6)  # a busy machine must not decide these tests

    return put


def test_the_fastest_that_passes_is_chosen(loaded, only):
    slow, fast, wrong = Fake("slow", seconds=0.5), Fake("fast"), Fake("wrong", noise=("fp32", "bf16"))
    only(slow, fast, wrong)
    selection = choose.select(loaded)
    assert selection.engine.backend == "fast"
    assert not selection.engine.closed
    assert selection.parity.passes()
    assert "fast" in selection.summary
    rows = {row.backend: row for row in selection.measured}
    assert rows["wrong"].parity.psnr < 45
    assert "below 45 dB" in rows["wrong"].remark


def test_the_choice_is_remembered_and_told(loaded, only):
    lines, fake = [], Fake("fake")
    only(fake)
    choose.select(loaded, notify=lines.append)
    assert any(line.startswith("chose fake") for line in lines)
    before = fake.loads
    again = choose.select(loaded)
    assert (fake.loads, again.measured) == (before + 1, ())
    assert "remembered" in again.summary


def test_another_machine_or_version_measures_again(loaded, only, monkeypatch):
    only(Fake("fake"))
    choose.select(loaded)
    monkeypatch.setattr(remembered, "installed", lambda: {"torch": "99"})
    assert choose.select(loaded).measured


def test_spoilt_memory_is_measured_again(loaded, only):
    only(Fake("fake"))
    choose.select(loaded)
    for path in (choose_folder := remembered.cache_folder() / "choices").iterdir():
        path.write_text(json.dumps({"backend": 3}))
    assert choose_folder.is_dir()
    assert choose.select(loaded).measured


def test_a_cache_that_cannot_be_written_does_no_harm(loaded, only, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("GANKIT_CACHE", str(tmp_path / "file"))
    only(Fake("fake"))
    assert choose.select(loaded).engine.backend == "fake"


def test_failing_precision_is_stepped_up_and_said(loaded, only):
    lines = []
    only(Fake("fake", noise=("bf16",)))
    selection = choose.select(loaded, backend="fake", precision="bf16", notify=lines.append)
    assert selection.engine.precision == "fp32"
    assert any("bf16" in line and "below 45 dB: fp32 instead" in line for line in lines)


@pytest.mark.parametrize("fake", [Fake("fake", noise=("bf16", "fp32")), Fake("fake", nan=True)])
def test_nothing_that_passes_is_refused_with_the_figures(fake, loaded, only):
    only(fake)
    with pytest.raises(ParityError, match=r"no engine reaches 45 dB.*fake") as caught:
        choose.select(loaded)
    assert caught.value.exit_code == 1


def test_a_missing_backend_is_passed_over_by_auto_and_named_when_asked_for(loaded, only):
    only(Fake("here"), Fake("away", missing="not installed: pip install away"))
    assert choose.select(loaded).engine.backend == "here"
    with pytest.raises(BackendError, match="'away': not installed: pip install away"):
        choose.select(loaded, backend="away")


def test_a_slow_start_is_for_long_jobs(loaded, only):
    quick, slow = Fake("quick", seconds=0.5), Fake("slow", slow_start=True)
    only(slow, quick)
    assert choose.select(loaded, job_pixels=1000).engine.backend == "quick"
    assert slow.loads == 0


def test_a_slow_start_enters_a_long_job(loaded, only):
    only(Fake("slow", slow_start=True), Fake("quick", seconds=0.5))
    assert choose.select(loaded, job_pixels=10**12).engine.backend == "slow"


def test_measuring_ends_when_its_time_is_up(loaded, only, monkeypatch):
    first, second = Fake("first"), Fake("second")
    only(first, second)
    monkeypatch.setattr(choose, "BUDGET_SECONDS", 0.0)
    selection = choose.select(loaded)
    assert (selection.engine.backend, second.loads) == ("first", 0)
    assert "not measured" in selection.measured[-1].remark


def test_unknown_device(loaded):
    with pytest.raises(UsageError, match="unknown device 'tpu'"):
        choose.select(loaded, device="tpu")


def test_the_real_backends(loaded):
    selection = choose.select(loaded)
    assert selection.engine.backend in backends.BACKENDS
    assert selection.parity.psnr > 45
    assert choose.check_engine(selection.engine, loaded).passes()


def test_parity_of_spoilt_pictures():
    x = torch.rand(1, 3, 8, 8)
    assert compare(x, x).psnr == float("inf")
    assert compare(x + 0.1, x).psnr == pytest.approx(
        -10 * torch.log10(((x + 0.1).clamp(0, 1) - x).double().pow(2).mean())
    )
    assert not compare(x * torch.nan, x).passes()
    with pytest.raises(ValueError, match="shapes differ"):
        compare(x, x[..., :4])
