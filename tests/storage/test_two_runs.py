"""Two runs that write to one folder of a store at the same time."""

import json
import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from storage_fakes import png, run, save_weights, statuses, upscaler

from gankit.pipeline.folder_claims import FolderClaims
from gankit.pipeline.run_options import RunOptions
from gankit.storage import claims, group
from gankit.storage.claims import FOLDER, Claim, Watch, claiming, locked
from gankit.storage.plan import make_plan, tasks_of
from gankit.storage.run import run_remote
from gankit.storage.stores import Remote
from gankit.storage.work import run_tasks
from gankit.video.options import VideoOptions
from tests.memory_store import empty_store_like_s3
from tests.together import twice_at_once

OUT = "memory://bucket/out"


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    return save_weights(tmp_path_factory.mktemp("weights") / "small.safetensors")


@pytest.fixture
def memory(monkeypatch):
    monkeypatch.setattr("gankit.storage.work._POLL", 0.02)
    return empty_store_like_s3(monkeypatch)


def sign(run, **content):
    here = {"host": socket.gethostname(), "process": os.getpid(), **content}
    Remote(OUT).write(f"{FOLDER}/{run}.run", json.dumps(here).encode())


def claims_left(memory):
    return [path for path in memory.find("/bucket/out") if FOLDER in path]


def test_work_is_shared_and_nothing_is_done_twice(memory, weights, monkeypatch):
    names = [f"{seed:02}.png" for seed in range(60)]
    for seed, name in enumerate(names):
        memory.pipe_file(f"/bucket/in/{name}", png(seed))
    put, send, lines = [], Remote._send, []

    def records(store, path, key):
        if key.endswith(".png"):
            put.append((threading.current_thread().name, key))
        send(store, path, key)

    monkeypatch.setattr(Remote, "_send", records)

    def one(begin):
        with upscaler(weights, lines) as pipeline:
            begin()
            return run_remote(pipeline, ["memory://bucket/in"], OUT)

    reports = twice_at_once(one)
    assert sorted(key for _, key in put) == [f"/bucket/out/{name}" for name in names]
    done = [report.totals.done for report in reports]
    assert sum(done) == 60
    assert min(done) > 0
    assert {report.totals.done + report.totals.skipped for report in reports} == {60}
    assert claims_left(memory) == []
    assert set(statuses(run(weights, "memory://bucket/in", OUT)).values()) == {"skipped"}


def test_what_another_run_leaves_is_done_by_this_one(memory, weights, monkeypatch):
    """The other run has claimed two images. One it fails to make, and then it ends."""
    for seed in range(3):
        memory.pipe_file(f"/bucket/in/{seed}.png", png(seed))
    lines = []
    with claiming(OUT, [f"{OUT}/0.png", f"{OUT}/1.png"]) as other:
        assert [claim.take() for claim in other.values()] == ["new", "new"]
        reports = []

        def this():
            reports.append(run(weights, "memory://bucket/in", OUT, lines))

        thread = threading.Thread(target=this)
        thread.start()
        while not any("waiting for 2 results that other runs are making" in line for line in lines):
            assert thread.is_alive()
            threading.Event().wait(0.01)
        memory.pipe_file("/bucket/out/0.png", b"made by the other")
        other[f"{OUT}/1.png"].release()
        thread.join()
    assert statuses(reports[0]) == {"0.png": "skipped", "1.png": "done", "2.png": "done"}
    assert memory.cat_file("/bucket/out/0.png") == b"made by the other"


def test_the_claims_of_a_process_that_was_killed_count_no_more(memory, weights):
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    memory.pipe_file("/bucket/in/0.png", png(0))
    assert Claim(OUT, "gone", f"{OUT}/0.png").take() == "new"
    sign("gone", process=gone.pid)
    assert statuses(run(weights, "memory://bucket/in", OUT)) == {"0.png": "done"}


def test_a_run_elsewhere_that_gives_no_sign_has_ended(memory, monkeypatch):
    claim, mine = Claim(OUT, "theirs", f"{OUT}/0.png"), Claim(OUT, "mine", f"{OUT}/0.png")
    assert claim.take() == "new"
    assert (claim.take(), mine.take()) == ("own", "other")
    now = [0.0]
    monkeypatch.setattr(claims, "monotonic", lambda: now[0])
    watch = Watch(OUT)
    for count in range(5):
        sign("theirs", host="elsewhere", count=count)
        now[0] += 40
        assert not watch.is_free(mine)
    now[0] += 40
    assert not watch.is_free(mine)
    now[0] += 40
    assert watch.is_free(mine)
    assert mine.take() == "new"


def test_a_run_gives_signs_and_removes_them(memory, monkeypatch):
    monkeypatch.setattr(claims, "_BEAT", 0.01)
    with claiming(OUT, [f"{OUT}/0.png"]) as own:
        [path] = claims_left(memory)
        first, deadline = memory.cat_file(path), 1000
        while memory.cat_file(path) == first:
            deadline -= 1
            assert deadline
            threading.Event().wait(0.01)
        assert own[f"{OUT}/0.png"].take() == "new"
    assert claims_left(memory) == []


def test_a_store_that_takes_no_claims(memory, weights, monkeypatch):
    def refuses(store, name, content):
        raise OSError("501 Not Implemented")

    memory.pipe_file("/bucket/in/0.png", png(0))
    monkeypatch.setattr(Remote, "create", refuses)
    assert statuses(run(weights, "memory://bucket/in", OUT)) == {"0.png": "done"}


def test_the_journal_is_written_by_one_run_at_a_time(memory, monkeypatch):
    store, steps = Remote(OUT), []
    monkeypatch.setattr(claims, "_RETRY", 0.01)

    def other():
        with locked(store):
            steps.append("other")

    with locked(store):
        thread = threading.Thread(target=other)
        thread.start()
        threading.Event().wait(0.05)
        steps.append("this")
    thread.join()
    assert steps == ["this", "other"]
    store.create(f"{FOLDER}/journal.lock", b"")  # left by a run that was killed
    monkeypatch.setattr(claims, "_LOCK_SECONDS", 0.05)
    with locked(store):
        pass
    assert claims_left(memory) == []


def test_runs_from_a_store_to_one_local_folder_share_the_work(memory, weights, tmp_path, monkeypatch):
    for seed in range(20):
        memory.pipe_file(f"/bucket/in/{seed:02}.png", png(seed))
    put, work = [], group.Group.put

    def records(self, task, report, entry):
        put.append(Path(task.target).name)
        return work(self, task, report, entry)

    monkeypatch.setattr(group.Group, "put", records)

    def one(begin):
        with upscaler(weights) as pipeline:
            begin()
            return run_remote(pipeline, ["memory://bucket/in"], tmp_path)

    reports = twice_at_once(one)
    assert sorted(put) == [f"{seed:02}.png" for seed in range(20)]
    assert sum(report.totals.done for report in reports) == 20
    assert {report.totals.done + report.totals.skipped for report in reports} == {20}
    assert len([*tmp_path.iterdir()]) == 21, "the results and the journal"


def test_a_local_result_that_another_run_has_claimed(memory, weights, tmp_path):
    """It is waited for, and made if the other run leaves it undone."""
    memory.pipe_file("/bucket/in/0.png", png(0))
    lines, reports = [], []
    with FolderClaims() as other:
        assert other.take(tmp_path / "0.png")
        thread = threading.Thread(target=lambda: reports.append(run(weights, "memory://bucket/in", tmp_path, lines)))
        thread.start()
        while not any("waiting for a result that another run is making" in line for line in lines):
            assert thread.is_alive()
            threading.Event().wait(0.01)
    thread.join()
    assert statuses(reports[0]) == {"0.png": "done"}


@pytest.mark.parametrize("source", ["memory://bucket/in", "{folder}/in"])
def test_a_result_that_appears_after_it_was_decided_about_is_that_of_another_run(memory, weights, tmp_path, source):
    """It is not made again, and the next run knows it."""
    memory.pipe_file("/bucket/in/0.png", png(0))
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "0.png").write_bytes(png(0))
    os.utime(tmp_path / "in" / "0.png", (1e9, 1e9))  # what changed just now counts as changed, to be safe
    given, results, out = [source.format(folder=tmp_path)], [], tmp_path / "out"

    def plan(folder):
        (tmp_path / folder).mkdir()
        return make_plan(pipeline, given, str(out), RunOptions(), tmp_path / folder, VideoOptions())

    with upscaler(weights) as pipeline:
        first = plan("a")
        assert [each.action for each in first.decisions] == ["new"]
        out.mkdir()
        (out / "0.png").write_bytes(b"made by the other")
        tasks = [*tasks_of(first)]
        first.ledger.begin(first.jobs)
        run_tasks(pipeline, tasks, RunOptions(), results.append)
        first.ledger.close()
        assert [result.report.status for result in results] == ["skipped"]
        assert (out / "0.png").read_bytes() == b"made by the other"
        assert [each.action for each in plan("b").decisions] == ["skip"]
