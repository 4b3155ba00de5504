"""A worker of a cluster, without Ray."""

import pickle

import numpy as np
from PIL import Image

import gankit
from gankit.cluster.ray_data import RESULT, TASK
from gankit.cluster.worker import Worker
from gankit.pipeline.report import Waits
from gankit.pipeline.run_options import RunOptions
from gankit.storage.group import Busy, Task
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
        rows = [pickle.loads(row) for row in worker({TASK: [pickle.dumps(task) for task in block]})[RESULT]]
        assert [result.report.status for result, _, _ in rows] == ["done"] * len(block)
        assert [taken for _, taken, _ in rows[:-1]] == [Busy()] * (len(block) - 1)
        busy += rows[-1][1]
        engine = sum(result.report.engine_seconds for result, _, _ in rows)
        waits = rows[-1][1].waits
        assert 0 < engine <= rows[-1][1].seconds - waits.decode_seconds - waits.encode_seconds + 1e-3
    assert busy.within(2 * busy.seconds) == Waits(2 * busy.waits.decode_seconds, 2 * busy.waits.encode_seconds)
    assert Busy().within(3.0) is None
