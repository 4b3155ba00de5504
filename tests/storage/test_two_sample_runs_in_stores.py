"""Runs of ``gankit generate`` that write to one folder of a store at the same time."""

import json
import re
import socket
import subprocess
import sys
import threading
from collections import Counter

import pytest

from gankit import cli
from gankit.errors import UsageError
from gankit.pipeline.generated_files import Destination, LocalFolder
from gankit.pipeline.generation import SampleRequest, write_samples
from gankit.pipeline.sampler import Sampler
from gankit.storage.claims import FOLDER, Claim, claiming
from gankit.storage.generated import image_folder
from gankit.storage.stores import Remote
from tests.latent_networks import weights
from tests.memory_store import empty_store_like_s3
from tests.s3_server import s3_server, use
from tests.together import twice_at_once

COUNT = 60
OUT = "memory://bucket/out"


@pytest.fixture
def memory(monkeypatch):
    """fsspec's store in memory, in which runs claim 8 samples at a time."""
    monkeypatch.setattr("gankit.storage.block_claims._BLOCK", 8)
    monkeypatch.setattr("gankit.storage.block_claims._AGAIN", 0.01)
    monkeypatch.setattr("gankit.pipeline.sample_claims._POLL", 0.02)
    return empty_store_like_s3(monkeypatch)


@pytest.fixture
def model(tmp_path):
    return weights(tmp_path, "gan")


@pytest.fixture
def alone(model, tmp_path):
    """The files of a run in a folder."""
    with Sampler(model, batch=8) as sampler:
        write_samples(sampler, SampleRequest(COUNT), Destination(LocalFolder(tmp_path / "alone")), print, print)
    return {path.name: path.read_bytes() for path in (tmp_path / "alone").iterdir()}


@pytest.fixture
def written(monkeypatch):
    """Names of the samples, in the order in which they were written."""
    seen, send = [], Remote._send

    def records(self, path, key):
        if key.endswith(".png"):
            seen.append(key.rpartition("/")[2])
        send(self, path, key)

    monkeypatch.setattr(Remote, "_send", records)
    return seen


def names(n=COUNT):
    return [f"{index:06d}.png" for index in range(n)]


def found(memory):
    return {path.rpartition("/out/")[2]: memory.cat_file(path) for path in memory.find("/bucket/out")}


def one_run(model, begin=lambda: None, *, batch=8, seed=0, lines=None, failed=print, **options):
    with Sampler(model, batch=batch, threads=1, notify=None if lines is None else lines.append) as sampler:
        sampler.start()
        begin()
        destination = Destination(image_folder(OUT), **options)
        return write_samples(sampler, SampleRequest(COUNT, seed), destination, lambda state: None, failed)


@pytest.mark.parametrize("batches", [(8, 8), (3, 5)])
def test_every_sample_is_made_once(memory, model, alone, written, batches):
    numbers = iter(batches)
    both = twice_at_once(lambda begin: one_run(model, begin, batch=next(numbers)))
    assert Counter(written) == Counter(names())
    assert found(memory).keys() == alone.keys(), "no claim is left"
    if batches == (8, 8):
        assert found(memory) == alone
    assert sum(outcome.done for outcome in both) == COUNT
    assert min(outcome.done for outcome in both) > 0
    assert {(outcome.done + outcome.skipped, outcome.failed) for outcome in both} == {(COUNT, 0)}


def test_samples_that_are_replaced_are_replaced_once(memory, model, written):
    one_run(model)
    written.clear()
    both = twice_at_once(lambda begin: one_run(model, begin, overwrite=True))
    assert Counter(written) == Counter(names())
    assert sum(outcome.done for outcome in both) == COUNT


def test_each_of_two_sample_grids_has_all_images(memory, model, written, tmp_path):
    def one(begin):
        grid = tmp_path / f"{threading.get_ident()}.png"
        return one_run(model, begin, grid=(LocalFolder(tmp_path), grid.name)), grid

    both = twice_at_once(one)
    assert sum(outcome.done for outcome, _ in both) == COUNT
    assert both[0][1].read_bytes() == both[1][1].read_bytes()


def test_runs_of_other_samples_are_not_mixed(memory, model):
    seeds = iter([1, 2])

    def one(begin):
        try:
            return one_run(model, begin, seed=next(seeds)).done
        except UsageError as error:
            return str(error)

    both = twice_at_once(one)
    assert [end for end in both if end == COUNT] == [COUNT]
    assert [end for end in both if "contains samples of another seed" in str(end)]
    assert json.loads(found(memory)["samples.json"])["seed"] == 1 + both.index(COUNT)


def test_what_two_runs_fail_to_make_does_not_keep_them_waiting_for_each_other(memory, model, monkeypatch):
    """Each run fails with its first sample, which it has claimed; the other one makes it in the end."""
    failing, send = {}, Remote._send

    def fails(self, path, key):
        if key.endswith(".png"):
            own = failing.setdefault(current(), key)
            if own == key:
                raise OSError("connection lost")
        send(self, path, key)

    runs = {}

    def current():
        """The run of a thread that writes: that of the sampler whose thread has begun it."""
        return runs[threading.current_thread().name.rpartition("_")[0]]

    def one(begin):
        name = threading.current_thread().name
        monkeypatch.setattr("gankit.pipeline.generated_files.ThreadPoolExecutor", pools)
        runs[name] = name
        return one_run(model, begin, failed=lambda error: None)

    from concurrent.futures import ThreadPoolExecutor

    def pools(count):
        return ThreadPoolExecutor(count, thread_name_prefix=threading.current_thread().name)

    monkeypatch.setattr(Remote, "_send", fails)
    both = twice_at_once(one)
    assert {outcome.done + outcome.skipped + outcome.failed for outcome in both} == {COUNT}
    assert {outcome.failed for outcome in both} == {1}
    assert {name for name in found(memory) if name.endswith(".png")} == set(names())


def test_what_another_run_has_claimed_is_waited_for_and_made_if_it_is_left(memory, model, alone):
    lines, ends, block = [], [], f"{OUT}/{names()[8]}"
    with claiming(OUT, [block]) as other:
        assert other[block].take() == "new"
        thread = threading.Thread(target=lambda: ends.append(one_run(model, lines=lines)))
        thread.start()
        while not any("waiting for 8 samples that other runs are making" in line for line in lines):
            assert thread.is_alive()
            threading.Event().wait(0.01)
        memory.pipe_file(f"/bucket/out/{names()[9]}", b"made by the other")
    thread.join()
    assert (ends[0].done, ends[0].skipped) == (COUNT - 1, 1)
    assert found(memory) == {**alone, names()[9]: b"made by the other"}


def test_the_claims_of_a_process_that_was_killed_count_no_more(memory, model, alone):
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    sign = {"host": socket.gethostname(), "process": gone.pid}
    for name in ("samples.json", names()[8]):
        assert Claim(OUT, "gone", f"{OUT}/{name}").take() == "new"
    memory.pipe_file(f"/bucket/out/{FOLDER}/gone.run", json.dumps(sign).encode())
    assert one_run(model).done == COUNT
    memory.rm_file(f"/bucket/out/{FOLDER}/gone.run")
    assert found(memory) == alone


def test_a_store_that_takes_no_claims(memory, model, alone, monkeypatch):
    def refuses(store, name, content):
        raise OSError("501 Not Implemented")

    monkeypatch.setattr(Remote, "create", refuses)
    monkeypatch.setattr(Remote, "write", refuses)
    assert one_run(model).done == COUNT
    assert found(memory) == alone


def test_a_run_that_ends_early_leaves_no_claim(memory, model, monkeypatch):
    def stop(self, name, image):
        raise KeyboardInterrupt

    monkeypatch.setattr("gankit.storage.generated.StoreFolder.write_image", stop)
    with pytest.raises(KeyboardInterrupt):
        one_run(model)
    assert set(found(memory)) == {"samples.json"}


@pytest.mark.slow
def test_two_commands_on_a_server(tmp_path, model, monkeypatch):
    """Two processes write to one bucket of an S3 server of the tests' own."""
    pytest.importorskip("s3fs", reason="s3fs is not installed")
    pytest.importorskip("moto.server", reason="moto is not installed")
    line = [sys.executable, "-m", "gankit", "generate", "-m", str(model), "-n", "600", "--threads", "1"]
    with s3_server() as variables:
        store = use(variables, monkeypatch)
        store.mkdir("samples")
        there = [*line, "-o", "s3://samples/out"]
        runs = [subprocess.Popen(there, stdout=subprocess.PIPE, text=True) for _ in range(2)]
        printed = [run.communicate()[0] for run in runs]
        assert [run.returncode for run in runs] == [0, 0]
        done = [int(re.search(r"(\d+) done", text)[1]) for text in printed]
        assert sum(done) == 600
        for text, own in zip(printed, done, strict=True):
            assert (f"{600 - own} skipped (results exist)" in text) == (own < 600)
        objects = {path.rpartition("/out/")[2] for path in store.find("samples/out")}
        assert objects == {*names(600), "samples.json"}
        assert cli.main([*line[3:], "-o", str(tmp_path / "plain"), "-q"]) == 0
        for name in (*names(600)[::50], "samples.json"):
            assert store.cat_file(f"samples/out/{name}") == (tmp_path / "plain" / name).read_bytes()
