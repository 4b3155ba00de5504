"""A short job runs on an engine that starts soon, and a longer one compares them."""

import pytest

from gankit.backends.choice import select
from gankit.backends.choice.cache import Choice
from gankit.backends.choice.short_jobs import SHORT_JOB_SECONDS, TORCH_SECONDS, most_pixels
from gankit.errors import ParityError
from gankit.options import EngineOptions
from tests.backends.choice.test_select import Fake, loaded, only, own_choices  # noqa: F401

MEGAPIXELS = 96 * 128 / 1e6  # of the timed image


class Soon(Fake):
    """Starts without torch."""

    start_rank = 0


def pixels(seconds, pace):
    """Pixels of a job that takes so long at the pace of a fake, which is of the timed image."""
    return int(seconds * MEGAPIXELS * 1e6 / pace)


def choose(model, job_pixels, *, notify=None, whole_job=True, **options):
    return select.select(model, EngineOptions(**options), job_pixels=job_pixels, whole_job=whole_job, notify=notify)


@pytest.fixture
def without_torch(monkeypatch):
    """Be a process that has not imported torch."""
    monkeypatch.setattr(select, "torch_is_imported", lambda: False)


def test_a_short_job_measures_one_engine_and_the_next_one_none(loaded, only):  # noqa: F811
    lines, fast, soon = [], Fake("fast"), Soon("soon", seconds=0.01)
    only(fast, soon, Fake("slow", slow_start=True))
    first = choose(loaded, 4096, notify=lines.append)
    assert (first.engine.backend, fast.loads, first.parity.passes()) == ("soon", 0, True)
    assert len(first.measured) == 1
    assert lines[-1] == "not compared for so short a job: fast fp32, slow fp32"
    again = choose(loaded, 4096)
    assert (again.engine.backend, again.measured, fast.loads) == ("soon", (), 0)
    assert again.most_pixels == first.most_pixels == pytest.approx(pixels(SHORT_JOB_SECONDS, soon.pace), rel=1e-6)


@pytest.mark.parametrize(
    ("job_pixels", "options"),
    [(None, {"whole_job": True}), (4096, {"whole_job": False}), (pixels(SHORT_JOB_SECONDS + 1, 0.011), {})],
    ids=["unknown", "a part", "longer"],
)
def test_other_jobs_compare(loaded, only, job_pixels, options):  # noqa: F811
    only(Soon("soon", seconds=0.01), Fake("fast"))
    chosen = choose(loaded, job_pixels, **options)
    assert (chosen.engine.backend, len(chosen.measured), chosen.most_pixels) == ("fast", 2, float("inf"))


def test_a_longer_job_after_a_short_one_compares(loaded, only):  # noqa: F811
    only(Soon("soon", seconds=0.01), Fake("fast"))
    first = choose(loaded, 4096)
    longer = choose(loaded, int(first.most_pixels) + 1)
    assert (first.engine.backend, longer.engine.backend, len(longer.measured)) == ("soon", "fast", 2)


def test_one_that_fails_the_gate_is_not_used_for_a_short_job(loaded, only):  # noqa: F811
    wrong, fast = Soon("wrong", noise=("fp32",)), Fake("fast")
    only(wrong, fast, Fake("other"))
    lines = []
    assert choose(loaded, 4096, notify=lines.append).engine.backend == "fast"
    assert any(line.startswith("wrong fp32 failed the parity check") for line in lines)
    only(wrong)
    with pytest.raises(ParityError, match="no engine reaches 45 dB"):
        choose(loaded, 4096, precision="fp32", threads=3)


def test_an_engine_that_was_named_is_the_only_one(loaded, only):  # noqa: F811
    only(Soon("soon"), Fake("fast"))
    assert choose(loaded, 4096, backend="fast").engine.backend == "fast"


def test_after_a_comparison_a_short_job_starts_without_torch(loaded, only, without_torch):  # noqa: F811
    soon, fast = Soon("soon", seconds=0.002), Fake("fast")
    only(fast, soon)
    assert choose(loaded, 10**9).engine.backend == "fast"
    short = choose(loaded, 4096)
    assert (short.engine.backend, short.measured) == ("soon", ())
    # The time that it loses on each pixel is made up by the import of torch that it saves.
    assert short.most_pixels == pytest.approx(pixels(TORCH_SECONDS, soon.pace - fast.pace), rel=1e-6)
    assert choose(loaded, int(short.most_pixels) + 1).engine.backend == "fast"
    assert choose(loaded, None).engine.backend == "fast"


def test_where_torch_is_imported_the_fastest_runs_short_jobs_too(loaded, only):  # noqa: F811
    only(Fake("fast"), Soon("soon", seconds=0.002))
    choose(loaded, 10**9)
    assert choose(loaded, 4096).engine.backend == "fast"


def test_an_engine_that_is_far_behind_is_not_proven(loaded, only, without_torch):  # noqa: F811
    only(Fake("fast"), Soon("soon", seconds=0.1))
    choose(loaded, 10**9)
    assert choose(loaded, 4096).engine.backend == "fast"


def test_a_choice_for_short_jobs_that_does_not_load_is_dropped(loaded, only):  # noqa: F811
    soon, lines = Soon("soon", seconds=0.01), []
    only(soon, Fake("fast"))
    choose(loaded, 4096)
    soon.fails = ("fp32",)
    assert choose(loaded, 4096, notify=lines.append).engine.backend == "fast"
    assert lines[0] == "the cached choice, soon fp32, did not load (no luck); measuring again"


def test_an_engine_that_is_no_slower_serves_any_job():
    soon = Choice("soon", "fp32", "cpu", 99.0, 0.0, "", 2.0)
    assert most_pixels(soon, soon) == float("inf")
    assert most_pixels(soon, None) == SHORT_JOB_SECONDS * 2e6
