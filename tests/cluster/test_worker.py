"""A worker of a cluster, without Ray."""

import pickle

import numpy as np
import pytest
from PIL import Image

import gankit
from gankit.cluster import generate, worker
from gankit.cluster.ray_data import RESULT, TASK
from gankit.cluster.worker import Worker
from gankit.pipeline.folder_claims import FolderClaims
from gankit.pipeline.generated_files import LocalFolder
from gankit.pipeline.generation import Part, SampleRequest
from gankit.pipeline.report import Waits
from gankit.pipeline.run_options import RunOptions
from gankit.pipeline.sample_claims import SampleClaims
from gankit.pipeline.sampler import Sampler
from gankit.storage.group import Busy, Task
from tests.latent_networks import weights as latent_weights
from tests.networks import save_visible_srgan


def test_a_worker_states_how_busy_it_was(tmp_path):
    weights = save_visible_srgan(tmp_path / "small.safetensors")
    tasks = []
    for number in range(4):
        Image.fromarray(np.full((8, 9, 3), 60 * number, np.uint8)).save(tmp_path / f"{number}.png")
        tasks.append(Task(number, str(tmp_path / f"{number}.png"), str(tmp_path / "out" / f"{number}.png")))

    def make():
        return gankit.Upscaler(weights, backend="eager", precision="fp32", threads=1)

    worker, busy = Worker(make, RunOptions(), str(tmp_path)), Busy()
    for block in (tasks[:3], tasks[3:]):
        [row] = worker({TASK: [pickle.dumps(task) for task in block]})[RESULT]
        done = pickle.loads(row)
        assert [result.report.status for result in done.results] == ["done"] * len(block)
        assert done.left == []
        busy += done.busy
        engine = sum(result.report.engine_seconds for result in done.results)
        waits = done.busy.waits
        assert 0 < engine <= done.busy.seconds - waits.decode_seconds - waits.encode_seconds + 1e-3
    assert busy.within(2 * busy.seconds) == Waits(2 * busy.waits.decode_seconds, 2 * busy.waits.encode_seconds)
    assert Busy().within(3.0) is None


@pytest.mark.parametrize("restarted", [False, True])
def test_results_that_appeared_are_those_of_the_lost_worker_or_of_another_run(tmp_path, monkeypatch, restarted):
    monkeypatch.setattr(worker, "is_restarted", lambda: restarted)
    weights, tasks = save_visible_srgan(tmp_path / "small.safetensors"), []
    for number in range(4):
        Image.fromarray(np.full((8, 9, 3), 60 * number, np.uint8)).save(tmp_path / f"{number}.png")
        tasks.append(Task(number, str(tmp_path / f"{number}.png"), str(tmp_path / "out" / f"{number}.png")))
    (tmp_path / "out").mkdir()
    for there in (0, 2):
        (tmp_path / "out" / f"{there}.png").write_bytes(b"made since the run began")

    def make():
        return gankit.Upscaler(weights, backend="eager", precision="fp32", threads=1)

    does, found = worker.Worker(make, RunOptions(), str(tmp_path)), {}
    for block in (tasks[:2], tasks[2:]):
        [row] = does({TASK: [pickle.dumps(task) for task in block]})[RESULT]
        for result in pickle.loads(row).results:
            found[result.number] = result.report.status, len(result.report.notes)
    first = ("done", 1) if restarted else ("skipped", 0)
    assert found == {0: first, 1: ("done", 0), 2: first, 3: ("done", 0)}
    assert (tmp_path / "out" / "0.png").read_bytes() == b"made since the run began"


def test_a_worker_does_not_wait_for_what_another_run_has_claimed(tmp_path):
    weights = save_visible_srgan(tmp_path / "small.safetensors")
    Image.fromarray(np.zeros((8, 9, 3), np.uint8)).save(tmp_path / "a.png")
    tasks = [Task(number, str(tmp_path / "a.png"), str(tmp_path / "out" / f"{number}.png")) for number in range(3)]
    does = Worker(
        lambda: gankit.Upscaler(weights, backend="eager", precision="fp32", threads=1), RunOptions(), str(tmp_path)
    )
    with FolderClaims() as other:
        assert other.take(tmp_path / "out" / "1.png")
        [row] = does({TASK: [pickle.dumps(task) for task in tasks]})[RESULT]
        done = pickle.loads(row)
        assert {result.number: result.report.status for result in done.results} == {0: "done", 2: "done"}
        assert done.left == [tasks[1]]
        [row] = does({TASK: [pickle.dumps(tasks[1])]})[RESULT]
        assert (pickle.loads(row).results, pickle.loads(row).left) == ([], [tasks[1]])


@pytest.mark.parametrize("restarted", [False, True])
def test_samples_that_appeared_are_those_of_the_lost_worker_or_of_another_run(tmp_path, monkeypatch, restarted):
    monkeypatch.setattr(generate, "is_restarted", lambda: restarted)
    model, folder = latent_weights(tmp_path, "gan"), LocalFolder(tmp_path / "out")
    folder.prepare()
    for there in (0, 2):
        folder.place(f"{there:06d}.png").write_bytes(b"made since the run began")
    work = generate.SampleWork(
        lambda: Sampler(model, threads=1), SampleRequest(4), SampleClaims(folder), ".png", str(tmp_path)
    )
    does, found = generate.SampleWorker(work), []
    for indices in ((0, 1), (2, 3)):
        (row,) = does({TASK: [pickle.dumps(Part(indices, frozenset(indices)))]})[RESULT]
        found.append(pickle.loads(row).elsewhere)
    assert found == [frozenset() if restarted else frozenset({there}) for there in (0, 2)]
    assert folder.read("000002.png") == b"made since the run began"
    assert {path.name for path in folder.path.iterdir()} == {f"{index:06d}.png" for index in range(4)}
