"""The time left of a run whose images differ in size, on a clock that only the work advances."""

import io
import itertools
import random

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from gankit.cli.progress import Bar
from gankit.images import DecodedImage, encode, from_array
from gankit.pipeline import run_state
from gankit.pipeline import runner as runner_module
from gankit.pipeline.items import Progress
from gankit.pipeline.remaining import Pixels
from gankit.pipeline.report import ImageReport
from gankit.pipeline.runner import Runner
from gankit.pipeline.targets import Job
from gankit.pipeline.workload import declared_pixels, job_pixels
from gankit.video.progress import ClipProgress

SECONDS_PER_MP = 4.0


def make_jobs(folder, sides):
    for number, side in enumerate(sides):
        Image.new("1", (side, side)).save(folder / f"{number:04}.png")
    return [Job(folder / f"{n:04}.png", folder / "out" / f"{n:04}.png") for n in range(len(sides))]


MIXED = [100] * 30 + [2000, 300, 900, 1500]
"""The images in an order that misleads: by their number, most are done in 2 % of the time."""


@pytest.mark.parametrize(
    "sides", [MIXED, MIXED[::-1], random.Random(1).sample(MIXED, len(MIXED))], ids=["rising", "falling", "mixed"]
)
def test_the_time_left_is_right_half_way(tmp_path, monkeypatch, sides):
    now = 0.0
    for module in (runner_module, run_state):
        monkeypatch.setattr(module, "perf_counter", lambda: now)

    def decode(path):
        with Image.open(path) as image:
            return DecodedImage(np.asarray(image, np.uint8)[..., None])

    def work(image, progress):
        nonlocal now
        for step in range(1, 11):
            now += image.pixels.size / 1e6 * SECONDS_PER_MP / 10
            progress(step / 10)
        now += 0.01
        return image

    jobs, seen = make_jobs(tmp_path, sides), []
    pixels = Pixels(jobs)
    run = Runner(
        decode=decode,
        work=work,
        encode=lambda image, target: None,
        cost=lambda image: 1,
        progress=lambda state: seen.append(pixels.of(state)),
        record=pixels.add,
    )
    run.run(jobs)
    assert seen[-1].part == 1.0
    half = min(seen, key=lambda state: abs(state.seconds - now / 2))
    assert half.seconds == pytest.approx(now / 2, rel=0.1)
    assert half.seconds_left == pytest.approx(now - half.seconds, rel=0.2)
    parts = [state.part for state in seen]
    assert all(after >= before - 1e-9 for before, after in itertools.pairwise(parts))


def test_headers_are_read_of_a_bounded_number_of_files_all_over_the_run(tmp_path, monkeypatch):
    read = []
    monkeypatch.setattr("gankit.pipeline.remaining._HEADERS", 5)
    monkeypatch.setattr(
        "gankit.pipeline.remaining.declared_pixels", lambda path, frames: read.append(path) or 2_000_000
    )
    jobs = [Job(tmp_path / f"{n}.png", tmp_path / "out" / f"{n}.png") for n in range(23)]
    pixels = Pixels(jobs)
    assert [path.stem for path in read] == ["0", "5", "10", "15", "20"]
    assert pixels.of(Progress(23)).total_mp == pytest.approx(23 * 2.01)
    pixels.add(ImageReport(jobs[1].source, jobs[1].target, "done", input_size=(4000, 2000)))
    state = pixels.of(Progress(23, 1))
    assert state.done_mp == pytest.approx(8.01)
    assert state.total_mp == pytest.approx((5 * 2.01 + 8.01) / 6 * 23)


def test_unreadable_files_count_with_the_average_until_they_fail(tmp_path):
    jobs = make_jobs(tmp_path, [1000, 1000, 1000])
    jobs[1].source.write_bytes(b"no image")
    pixels = Pixels(jobs)
    assert pixels.of(Progress(3)).total_mp == pytest.approx(3 * 1.01)
    pixels.add(ImageReport(jobs[1].source, jobs[1].target, "failed", error="it is none"))
    state = pixels.of(Progress(3, failed=1))
    assert (state.done_mp, state.total_mp) == (pytest.approx(0.01), pytest.approx(2 * 1.01 + 0.01))


def test_an_animation_counts_all_its_frames(tmp_path):
    frames = [Image.new("RGB", (30, 20), color) for color in ("red", "blue", "white")]
    for name in ("a.gif", "a.png", "a.webp", "a.tiff"):
        frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:])
        assert declared_pixels(tmp_path / name, frames=True) == 3 * 600
        assert declared_pixels(tmp_path / name) == 600
    assert declared_pixels(tmp_path / "missing.png") is None


def test_the_time_left_of_a_clip_ignores_frames_of_an_earlier_run():
    assert ClipProgress(100, 80, seconds=2.0, frames_per_second=5.0).seconds_left == 4.0
    assert Progress(100).seconds_left is None


def test_the_bar_shows_the_time_left_and_counts_it_down():
    now = 100.0
    text = io.StringIO()
    console = Console(file=text, force_terminal=True, width=120)
    with Bar(console=console, clock=lambda: now) as bar:
        bar.update(Progress(4, done=3, seconds=10.0, done_mp=1.0, total_mp=10.0))
        assert shown_time(bar) == "0:01:30"
        now = 130.0
        assert shown_time(bar) == "0:01:00"
        bar.update(Progress(4))
        assert shown_time(bar) == "-:--:--"
    assert "3/4" in text.getvalue()


def shown_time(bar):
    (task,) = bar._bars.tasks
    return bar._bars.columns[-1].render(task).plain


def test_the_size_of_a_job_is_that_of_its_headers(tmp_path):
    """Also beyond the size at which Pillow warns of decompression bombs, and of formats that Pillow does not read."""
    wide, float_exr, broken = tmp_path / "wide.png", tmp_path / "light.exr", tmp_path / "broken.png"
    Image.new("1", (10_000, 10_000)).save(wide)
    encode(from_array(np.zeros((30, 40, 3), np.uint8)), float_exr)
    broken.write_bytes(b"no image")
    jobs = [Job(path, tmp_path / "out" / path.name) for path in (wide, float_exr, broken)]
    assert job_pixels(jobs[:1]) == 100_000_000
    assert job_pixels(jobs[1:2]) == 1200
    assert job_pixels(jobs[2:]) is None
    assert job_pixels(jobs[1:]) == 2400  # the broken one counts as the others
