"""Two runs, each a process of its own, that write to one local folder at the same time."""

import os
import signal
import sys
from collections import Counter

import numpy as np
import pytest
from PIL import Image

import gankit
from gankit.pipeline.folder_claims import NAME
from gankit.pipeline.journal import NAME as JOURNAL
from tests.networks import save_visible_srgan
from tests.opening import opened
from tests.together import begin, two_processes

pytestmark = [pytest.mark.slow, pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGKILL")]

# Logs each result before it is written, and takes its time. It begins once a line on stdin says so.
RUN = """
import sys, time
from pathlib import Path
import gankit
from gankit import images

weights, source, out, log, seconds = sys.argv[1:]
write = images.encode

def encode(image, target, **options):
    with Path(log).open("ab", buffering=0) as file:
        file.write((target.name + "\\n").encode())
    time.sleep(float(seconds))
    return write(image, target, **options)

images.encode = encode
with gankit.Upscaler(weights, backend="eager", precision="fp32", threads=1, notify=None) as upscaler:
    upscaler(next(Path(source).rglob("*.png")))  # loads the engine
    print("ready", flush=True)
    sys.stdin.readline()
    totals = upscaler.run(source, out).totals
print(totals.done, totals.skipped, totals.failed, flush=True)
"""


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    return save_visible_srgan(tmp_path_factory.mktemp("weights") / "small.safetensors")


@pytest.fixture
def source(tmp_path):
    folder = tmp_path / "in"
    (folder / "sub").mkdir(parents=True)
    for seed in range(12):
        pixels = np.random.default_rng(seed).integers(0, 256, (8, 9, 3), np.uint8)
        path = folder / ("sub" if seed % 3 == 0 else "") / f"{seed:02}.png"
        Image.fromarray(pixels).save(path)
        os.utime(path, (1e9, 1e9))  # what changed just now counts as changed, to be safe
    return folder


def two_runs(weights, source, out, log, seconds):
    """Two processes that are ready to begin."""
    return two_processes([sys.executable, "-c", RUN, *map(str, (weights, source, out, log, seconds))])


def results(out):
    return sorted(path.name for path in out.rglob("*.png"))


NAMES = [f"{seed:02}.png" for seed in range(12)]


def test_every_image_is_done_once(weights, source, tmp_path):
    out, log = tmp_path / "out", tmp_path / "log"
    with two_runs(weights, source, out, log, 0.05) as runs:
        for run in runs:
            begin(run)
        ends = [tuple(map(int, run.communicate(timeout=120)[0].split())) for run in runs]
    assert Counter(log.read_text().split()) == Counter(NAMES)
    assert results(out) == NAMES
    assert sum(done for done, _, _ in ends) == 12
    assert min(done for done, _, _ in ends) > 0
    assert {(done + skipped, failed) for done, skipped, failed in ends} == {(12, 0)}
    assert {path.name for path in out.rglob(".*")} == {JOURNAL}
    with gankit.Upscaler(weights, backend="eager", precision="fp32", threads=1) as upscaler:
        assert upscaler.run(source, out).totals.skipped == 12


def test_one_of_two_is_killed(weights, source, tmp_path):
    out, log = tmp_path / "out", tmp_path / "log"
    with two_runs(weights, source, out, log, 0.2) as (first, second):
        begin(first)
        while not log.exists():  # it is writing its first result, and has read others
            assert first.poll() is None
        begin(second)
        while len(log.read_text().split()) < 3:
            assert second.poll() is None
        os.kill(first.pid, signal.SIGKILL)
        done, skipped, failed = map(int, second.communicate(timeout=120)[0].split())
    assert (done + skipped, failed) == (12, 0)
    assert results(out) == NAMES
    assert all(opened(path).size == (36, 32) for path in out.rglob("*.png"))
    assert not list(out.rglob(NAME))
    assert max(Counter(log.read_text().split()).values()) <= 2, "only what the first one was writing is done again"
    with gankit.Upscaler(weights, backend="eager", precision="fp32", threads=1) as upscaler:
        assert upscaler.run(source, out).totals.skipped == 12
