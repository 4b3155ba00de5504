"""Runs of ``gankit generate`` that write to one local folder at the same time."""

import json
import os
import signal
import sys
import threading
from collections import Counter

import numpy as np
import pytest
from PIL import Image

from gankit import cli, images
from gankit.errors import UsageError
from gankit.pipeline import generated_files, sample_claims
from gankit.pipeline.folder_claims import NAME, FolderClaims
from gankit.pipeline.generated_files import Destination, LocalFolder
from gankit.pipeline.generation import SampleRequest, write_samples
from gankit.pipeline.journal import NAME as JOURNAL
from gankit.pipeline.reconstruction import Reconstructor
from gankit.pipeline.sampler import Sampler
from tests.latent_networks import weights
from tests.opening import opened
from tests.together import begin, twice_at_once, two_processes

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the locks of one process exclude each other on Linux")
COUNT = 24


@pytest.fixture
def model(tmp_path):
    return weights(tmp_path, "gan")


def names(n=COUNT):
    return [f"{index:06d}.png" for index in range(n)]


def found(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def alone(model, tmp_path):
    """The files of a run that nobody else disturbs."""
    with Sampler(model, batch=4) as sampler:
        write_samples(sampler, SampleRequest(COUNT), Destination(LocalFolder(tmp_path / "alone")), print, print)
    return found(tmp_path / "alone")


@pytest.fixture
def written(monkeypatch):
    """Names of the images, in the order in which they were written."""
    seen, write = [], LocalFolder.write_image

    def records(self, name, image):
        seen.append(name)
        write(self, name, image)

    monkeypatch.setattr(LocalFolder, "write_image", records)
    return seen


def one_run(model, out, begin=lambda: None, *, batch=4, lines=None, seed=0, **options):
    states = []
    with Sampler(model, batch=batch, threads=1, notify=None if lines is None else lines.append) as sampler:
        sampler.start()
        begin()
        destination = Destination(LocalFolder(out), **options)
        return write_samples(sampler, SampleRequest(COUNT, seed), destination, states.append, print), states


@pytest.mark.parametrize("batches", [(4, 4), (3, 5)])
def test_every_sample_is_made_once(model, alone, written, tmp_path, batches):
    numbers = iter(batches)
    both = twice_at_once(lambda begin: one_run(model, tmp_path / "out", begin, batch=next(numbers)))
    assert Counter(written) == Counter(names())
    assert found(tmp_path / "out").keys() == alone.keys(), "no lock is left"
    if batches == (4, 4):
        assert found(tmp_path / "out") == alone
    assert sum(outcome.done for outcome, _ in both) == COUNT
    for outcome, states in both:
        assert (outcome.done + outcome.skipped, outcome.failed) == (COUNT, 0)
        assert [state.done for state in states] == [*range(1, outcome.done + 1)]
        assert {state.total for state in states} <= {*range(outcome.done, COUNT + 1)}


def test_samples_that_are_replaced_are_replaced_once(model, written, tmp_path):
    one_run(model, tmp_path / "out")
    written.clear()
    both = twice_at_once(lambda begin: one_run(model, tmp_path / "out", begin, overwrite=True)[0])
    assert Counter(written) == Counter(names())
    assert sum(outcome.done for outcome in both) == COUNT


def test_each_of_two_sample_grids_has_all_images(model, written, tmp_path):
    def one(begin):
        grid = tmp_path / f"{threading.get_ident()}.png"
        return one_run(model, tmp_path / "out", begin, grid=(LocalFolder(tmp_path), grid.name))[0], grid

    both = twice_at_once(one)
    assert sum(outcome.done for outcome, _ in both) == COUNT
    assert both[0][1].read_bytes() == both[1][1].read_bytes()


def test_what_another_run_has_claimed_is_waited_for_and_made_if_it_is_left(model, alone, tmp_path, monkeypatch):
    """The other run has claimed three samples. One it makes, one it leaves at once, and the last one in the end."""
    out, lines, ends = tmp_path / "out", [], []
    monkeypatch.setattr(sample_claims, "_POLL", 0.01)
    with FolderClaims() as other:
        assert all(other.take(out / name) for name in names()[8:11])
        thread = threading.Thread(target=lambda: ends.append(one_run(model, out, lines=lines)[0]))
        thread.start()
        while not any("waiting for 4 samples that other runs are making" in line for line in lines):
            assert thread.is_alive()
            threading.Event().wait(0.01)
        (out / names()[8]).write_bytes(b"made by the other")
        other.release(out / names()[9])
        while not (out / names()[9]).exists():
            assert thread.is_alive()
            threading.Event().wait(0.01)
        assert not (out / names()[10]).exists()
    thread.join()
    assert (ends[0].done, ends[0].skipped) == (COUNT - 1, 1)
    assert found(out) == {**alone, names()[8]: b"made by the other"}


def test_runs_of_other_samples_are_not_mixed(model, tmp_path):
    seeds = iter([1, 2])

    def one(begin):
        try:
            return one_run(model, tmp_path / "out", begin, seed=next(seeds))[0].done
        except UsageError as error:
            return str(error)

    both = twice_at_once(one)
    assert [end for end in both if end == COUNT] == [COUNT]
    assert [end for end in both if "contains samples of another seed" in str(end)]
    assert json.loads((tmp_path / "out" / "samples.json").read_text())["seed"] == 1 + both.index(COUNT)


def test_a_failed_sample_is_failed_in_one_run_or_both(model, tmp_path, monkeypatch):
    write = LocalFolder.write_image

    def fails(self, name, image):
        if name == names()[5]:
            raise generated_files.ImageError(self.place(name), "cannot be written")
        write(self, name, image)

    monkeypatch.setattr(LocalFolder, "write_image", fails)
    both = twice_at_once(lambda begin: one_run(model, tmp_path / "out", begin)[0])
    assert sum(outcome.done for outcome in both) == COUNT - 1
    assert {outcome.done + outcome.skipped + outcome.failed for outcome in both} == {COUNT}
    assert max(outcome.failed for outcome in both) == 1


def test_every_reconstruction_is_made_once(tmp_path, monkeypatch):
    model, source, seen, write = weights(tmp_path, "vae"), tmp_path / "in", [], images.encode
    source.mkdir()
    for seed in range(COUNT):
        pixels = np.random.default_rng(seed).integers(0, 256, (8, 8), np.uint8)
        Image.fromarray(pixels).save(source / f"{seed}.png")
        os.utime(source / f"{seed}.png", (1e9, 1e9))  # what changed just now counts as changed, to be safe

    def records(image, target, **options):
        seen.append(target.name)
        return write(image, target, **options)

    def one(begin):
        with Sampler(model, batch=2, threads=1) as sampler:
            sampler.start()
            begin()
            return Reconstructor(sampler).run([source], tmp_path / "out").totals

    monkeypatch.setattr(images, "encode", records)
    both = twice_at_once(one)
    assert Counter(seen) == Counter(path.name for path in source.iterdir())
    assert sum(totals.done for totals in both) == COUNT
    assert {(totals.done + totals.skipped, totals.failed) for totals in both} == {(COUNT, 0)}
    assert {path.name for path in (tmp_path / "out").iterdir()} == {*seen, JOURNAL}


# The command, which begins once a line on stdin says so, logs each sample before it is written, and takes its time.
RUN = """
import sys, time
from pathlib import Path
from gankit import cli
from gankit.pipeline.generated_files import LocalFolder

log, seconds, *arguments = sys.argv[1:]
write = LocalFolder.write_image

def slow(self, name, image):
    with Path(log).open("ab", buffering=0) as file:
        file.write((name + "\\n").encode())
    time.sleep(float(seconds))
    write(self, name, image)

LocalFolder.write_image = slow
print("ready", flush=True)
sys.stdin.readline()
raise SystemExit(cli.main(["generate", *arguments]))
"""


def two_commands(model, out, log, seconds):
    line = [sys.executable, "-c", RUN, str(log), str(seconds), "-m", str(model), "-n", str(COUNT), "-o", str(out)]
    return two_processes([*line, "--batch", "2", "--backend", "eager", "--threads", "1"])


@pytest.mark.slow
def test_two_commands(model, tmp_path, capsys):
    out, log = tmp_path / "out", tmp_path / "log"
    with two_commands(model, out, log, 0.05) as runs:
        for run in runs:
            begin(run)
        ends = [run.communicate(timeout=300)[0].splitlines()[-1] for run in runs]
    assert Counter(log.read_text().split()) == Counter(names())
    assert sorted(found(out)) == [*names(), "samples.json"]
    done = [int(end.split(" done")[0]) for end in ends]
    assert sum(done) == COUNT
    for end, own in zip(ends, done, strict=True):
        assert (f"{COUNT - own} skipped (results exist)" in end) == (own < COUNT)
    assert cli.main(["generate", "-m", str(model), "-n", str(COUNT), "-o", str(out)]) == 0
    assert capsys.readouterr().out == f"0 done, {COUNT} skipped (results exist)\n"


@pytest.mark.slow
def test_one_of_two_commands_is_killed(model, tmp_path):
    out, log = tmp_path / "out", tmp_path / "log"
    with two_commands(model, out, log, 0.3) as (first, second):
        begin(first)
        while not log.exists():
            assert first.poll() is None
        begin(second)
        while len(log.read_text().split()) < 5:
            assert second.poll() is None
        os.kill(first.pid, signal.SIGKILL)
        end = second.communicate(timeout=300)[0].splitlines()[-1]
    done = int(end.split(" done")[0])
    assert done == COUNT or f"{COUNT - done} skipped" in end
    assert {name for name in found(out) if name.endswith(".png")} == set(names())
    assert all(opened(path).size == (12, 8) for path in out.glob("*.png"))
    assert not (out / NAME).exists()
