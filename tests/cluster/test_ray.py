"""Runs on a Ray of this machine with two workers."""

import os
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import numpy as np
import psutil
import pytest
from PIL import Image

import gankit
from gankit.cluster import run_on_cluster
from tests.networks import save_visible_srgan

MANY = int(os.environ.get("GANKIT_RAY_IMAGES", "200"))  # 1000 take about a minute on two idle cores

ray = pytest.importorskip("ray", reason="Ray is not installed")
pytest.importorskip("ray.data", reason="Ray Data is not installed")

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    return save_visible_srgan(tmp_path_factory.mktemp("weights") / "small.safetensors")


@pytest.fixture(scope="module")
def cluster():
    """One Ray for all tests of this file: it takes seconds to start."""
    ray.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


def images(folder, count, side=8):
    folder.mkdir()
    for seed in range(count):
        pixels = np.random.default_rng(seed).integers(0, 256, (side, side, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{seed}.png")
        os.utime(folder / f"{seed}.png", (1e9, 1e9))  # what changed just now counts as changed, to be safe
    return folder


def upscaler(weights):
    return gankit.Upscaler(weights, backend="eager", precision="fp32", threads=1)


def counting(weights, log, seconds=0.0):
    """What makes the pipeline of a worker that takes its time, and logs each file that it has written."""
    given, log = str(weights), str(log)

    def worker(engine, notify):
        import os
        import time
        from pathlib import Path

        import gankit
        from gankit import images

        write = images.encode

        def encode(image, target, **options):
            time.sleep(seconds)
            notes = write(image, target, **options)
            with Path(log).open("ab", buffering=0) as file:
                file.write(f"{os.getpid()} {target.name}\n".encode())
            return notes

        images.encode = encode
        return gankit.Upscaler(given, engine=engine)

    return worker


def lines(log):
    return [line.split() for line in log.read_text().splitlines()] if log.exists() else []


def test_a_worker_is_killed(cluster, weights, tmp_path):
    source, out, log = images(tmp_path / "in", 60), tmp_path / "out", tmp_path / "log"
    killed = []

    def kill():
        """Kill the worker that wrote the fifth file, in the midst of its block."""
        while len(lines(log)) < 5:
            time.sleep(0.02)
        killed.append(int(lines(log)[4][0]))
        psutil.Process(killed[0]).kill()

    killer = threading.Thread(target=kill, daemon=True)
    killer.start()
    with upscaler(weights) as pipeline:
        report = run_on_cluster(pipeline, [source], out, address="local", worker=counting(weights, log, seconds=0.15))
    killer.join()
    assert {item.status for item in report.images} == {"done"}
    assert len(report.images) == 60
    written = Counter(name for _, name in lines(log))
    assert set(written) <= {path.name for path in out.iterdir()}
    assert set(written.values()) == {1}, "no image is done twice"
    # The worker may have been killed between a rename and its line in the log.
    assert len(written) >= 59
    assert len({pid for pid, _ in lines(log)} - {str(killed[0])}) >= 1
    assert len([path for path in out.iterdir() if path.suffix == ".png"]) == 60
    with upscaler(weights) as pipeline:
        plain = pipeline.run(source, tmp_path / "plain")
        again = pipeline.run(source, out)
    assert plain.totals.done == 60
    assert {item.status for item in again.images} == {"skipped"}
    assert all(
        (tmp_path / "plain" / path.name).read_bytes() == (out / path.name).read_bytes() for path in source.iterdir()
    )


def test_another_run_on_the_same_folder(cluster, weights, tmp_path, monkeypatch):
    """A run of this process, which begins when a worker has written its first file. No worker is lost."""
    source, out, log = images(tmp_path / "in", 60), tmp_path / "out", tmp_path / "log"
    encode, plain = gankit.images.encode, []

    def slow(image, target, **options):
        time.sleep(0.1)
        notes = encode(image, target, **options)
        with log.open("ab", buffering=0) as file:
            file.write(f"{os.getpid()} {target.name}\n".encode())
        return notes

    def other():
        while not lines(log):
            time.sleep(0.02)
        with upscaler(weights) as pipeline:
            plain.append(pipeline.run(source, out))

    monkeypatch.setattr(gankit.images, "encode", slow)
    thread = threading.Thread(target=other, daemon=True)
    thread.start()
    with upscaler(weights) as pipeline:
        report = run_on_cluster(pipeline, [source], out, address="local", worker=counting(weights, log, seconds=0.3))
    thread.join()
    assert Counter(name for _, name in lines(log)) == Counter(path.name for path in source.iterdir())
    done = [each.totals.done for each in (report, plain[0])]
    assert sum(done) == 60
    assert min(done) > 0
    for each in (report, plain[0]):
        assert each.totals.done + each.totals.skipped == 60
        assert [item.notes for item in each.images if item.notes] == []


def test_many_images(cluster, weights, tmp_path):
    source, out, log = images(tmp_path / "in", MANY), tmp_path / "out", tmp_path / "log"
    (source / "broken.png").write_bytes(b"no image")
    states = []
    with upscaler(weights) as pipeline:
        report = run_on_cluster(
            pipeline, [source], out, address="local", worker=counting(weights, log), progress=states.append
        )
    assert report.totals.done == MANY
    assert [item.source for item in report.failures] == [source / "broken.png"]
    assert str(source / "broken.png") in report.failures[0].error
    assert set(Counter(name for _, name in lines(log)).values()) == {1}
    assert len({pid for pid, _ in lines(log)}) == 2
    assert (states[-1].done, states[-1].failed, states[-1].total) == (MANY, 1, MANY + 1)
    assert report.engine.backend == "eager"
    assert 0 < report.totals.engine_share <= 1
    with upscaler(weights) as pipeline:
        again = run_on_cluster(pipeline, [source], out, address="local", worker=counting(weights, log))
    assert (again.totals.skipped, again.totals.failed) == (MANY, 1)
    assert len(lines(log)) == MANY


def test_an_error_of_the_whole_run_is_raised_here(cluster, weights, tmp_path):
    source = images(tmp_path / "in", 3)

    def worker(engine, notify):
        from gankit.errors import BackendError

        raise BackendError("no such engine here")

    with upscaler(weights) as pipeline, pytest.raises(gankit.errors.BackendError, match="no such engine here"):
        run_on_cluster(pipeline, [source], tmp_path / "out", address="local", worker=worker)
    assert [path.name for path in (tmp_path / "out").iterdir()] == [".gankit.jsonl"]


def test_the_command_and_its_silence(weights, tmp_path):
    source = images(tmp_path / "in", 5)
    (source / "broken.png").write_bytes(b"no image")
    line = [sys.executable, "-m", "gankit", "upscale", "in", "-o", "out", "-m", str(weights), "--backend", "eager"]
    line += ["--precision", "fp32", "--threads", "1", "--cluster", "local"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    done = subprocess.run(line, cwd=tmp_path, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 1, done.stderr
    assert "5 done, 1 failed" in done.stdout
    assert [text.split(": ")[:2] for text in done.stderr.splitlines()] == [["error", str(Path("in/broken.png"))]]
