"""Two runs on Ray, each a process of its own, that write to one folder at the same time."""

import os
import re
import signal
import subprocess
import sys
from collections import Counter

import numpy as np
import pytest
from PIL import Image

import gankit
from gankit import cli
from gankit.pipeline.journal import NAME as JOURNAL
from tests.latent_networks import weights as latent_weights
from tests.networks import save_visible_srgan
from tests.s3_server import s3_server, use
from tests.together import begin, two_processes

ray = pytest.importorskip("ray", reason="Ray is not installed")
pytest.importorskip("ray.data", reason="Ray Data is not installed")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore"),
    pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGKILL"),
]
COUNT = 60
NAMES = [f"{seed:02}.png" for seed in range(COUNT)]

# Its workers log each result before they write it, and take their time. Those of the first run wait for the second run.
RUN = """
import functools, os, sys
import gankit
from gankit.cluster import run_on_cluster

def make(weights, log, runs, number, seconds, engine, notify=None):
    import time
    from pathlib import Path
    import gankit
    from gankit import images

    write = images.encode
    Path(f"{log}.{number}").touch()
    while not all(Path(f"{log}.{each}").exists() for each in range(runs)):
        time.sleep(0.05)

    def encode(image, target, **options):
        with Path(log).open("ab", buffering=0) as file:
            file.write(f"{number} {target.name}\\n".encode())
        time.sleep(seconds)
        return write(image, target, **options)

    images.encode = encode
    return gankit.Upscaler(weights, engine=engine)

weights, source, out, log, runs, seconds, address = sys.argv[1:]
print("ready", flush=True)
number = int(sys.stdin.readline())
worker = functools.partial(make, weights, log, int(runs), number, float(seconds))
with gankit.Upscaler(weights, backend="eager", precision="fp32", threads=1) as upscaler:
    totals = run_on_cluster(upscaler, [source], out, address=address, worker=worker).totals
print(totals.done, totals.skipped, totals.failed, flush=True)
"""


LONG = pytest.mark.skipif(not os.environ.get("GANKIT_LONG"), reason="takes minutes: set GANKIT_LONG=1")


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    return save_visible_srgan(tmp_path_factory.mktemp("weights") / "small.safetensors")


@pytest.fixture
def source(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    for seed, name in enumerate(NAMES):
        pixels = np.random.default_rng(seed).integers(0, 256, (8, 9, 3), np.uint8)
        Image.fromarray(pixels).save(folder / name)
        os.utime(folder / name, (1e9, 1e9))  # what changed just now counts as changed, to be safe
    return folder


@pytest.fixture(autouse=True)
def no_cluster(monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)


def two_runs(weights, source, log, *, waiting, seconds, address="local"):
    given = (weights, source, source.parent / "out", log, waiting, seconds, address)
    return two_processes([sys.executable, "-c", RUN, *map(str, given)])


def logged(log):
    return [line.split() for line in log.read_text().splitlines()] if log.exists() else []


def plain(weights, source, folder):
    with gankit.Upscaler(weights, backend="eager", precision="fp32", threads=1) as upscaler:
        upscaler.run(source, folder)
        again = upscaler.run(source, source.parent / "out")
    assert again.totals.skipped == COUNT
    return {path.name: path.read_bytes() for path in folder.glob("*.png")}


def made(source):
    return {path.name: path.read_bytes() for path in (source.parent / "out").glob("*.png")}


def test_every_image_is_done_once(weights, source, tmp_path):
    log = tmp_path / "log"
    with two_runs(weights, source, log, waiting=2, seconds=0.2) as runs:
        for number, run in enumerate(runs):
            begin(run, number)
        ends = [tuple(map(int, run.communicate()[0].split())) for run in runs]
    assert [run.returncode for run in runs] == [0, 0]
    assert Counter(name for _, name in logged(log)) == Counter(NAMES)
    assert [done for done, _, _ in ends] == [Counter(number for number, _ in logged(log))[each] for each in "01"]
    assert min(done for done, _, _ in ends) > 0
    assert {(done + skipped, failed) for done, skipped, failed in ends} == {(COUNT, 0)}
    assert {path.name for path in (tmp_path / "out").iterdir()} == {*NAMES, JOURNAL}
    assert made(source) == plain(weights, source, tmp_path / "plain")


def test_one_of_two_is_killed(weights, source, tmp_path):
    log = tmp_path / "log"
    with two_runs(weights, source, log, waiting=2, seconds=0.4) as (first, second):
        begin(first, 0)
        begin(second, 1)
        while len([number for number, _ in logged(log) if number == "0"]) < 3:
            assert first.poll() is None
        os.kill(first.pid, signal.SIGKILL)
        done, skipped, failed = map(int, second.communicate()[0].split())
    assert (done + skipped, failed) == (COUNT, 0)
    assert max(Counter(name for _, name in logged(log)).values()) <= 2, "only what was being written is done again"
    assert made(source) == plain(weights, source, tmp_path / "plain")


@LONG
def test_two_runs_on_one_ray(weights, source, tmp_path):
    """The second run has no worker before the first one is done."""
    log = tmp_path / "log"
    ray.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    try:
        address = ray.get_runtime_context().gcs_address
        with two_runs(weights, source, log, waiting=0, seconds=0.05, address=address) as runs:
            for number, run in enumerate(runs):
                begin(run, number)
            ends = [tuple(map(int, run.communicate()[0].split())) for run in runs]
    finally:
        ray.shutdown()
    assert [run.returncode for run in runs] == [0, 0]
    assert Counter(name for _, name in logged(log)) == Counter(NAMES)
    assert sum(done for done, _, _ in ends) == COUNT
    assert {(done + skipped, failed) for done, skipped, failed in ends} == {(COUNT, 0)}


def two_commands(*arguments):
    """Run a command twice at once, each with a Ray of its own. Return how many results each run made."""
    line = [sys.executable, "-m", "gankit", *map(str, arguments), "--threads", "1", "--cluster", "local"]
    runs = [subprocess.Popen(line, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    printed = [run.communicate()[0] for run in runs]
    assert [run.returncode for run in runs] == [0, 0], printed
    counts = []
    for text in printed:
        done = int(re.search(r"(\d+) done", text)[1])
        skipped = re.search(r"(\d+) skipped", text)
        counts.append((done, 0 if skipped is None else int(skipped[1])))
    assert len({done + skipped for done, skipped in counts}) == 1
    return [done for done, _ in counts]


@pytest.fixture
def bucket(monkeypatch):
    pytest.importorskip("s3fs", reason="s3fs is not installed")
    pytest.importorskip("moto.server", reason="moto is not installed")
    with s3_server() as variables:
        store = use(variables, monkeypatch)
        if store.exists("bucket"):  # servers of one process share what they hold
            store.rm("bucket", recursive=True)
        store.mkdir("bucket")
        yield store


def objects(bucket):
    return {path.rpartition("/out/")[2] for path in bucket.find("bucket/out")}


@LONG
def test_images_in_a_store(bucket, weights, source, tmp_path):
    bucket.put(str(source), "bucket/in", recursive=True)
    given = ["-m", weights, "--backend", "eager", "--precision", "fp32"]
    done = two_commands("upscale", "s3://bucket/in", "-o", "s3://bucket/out", *given)
    assert sum(done) == COUNT
    assert objects(bucket) == {*NAMES, ".gankit-objects.jsonl"}
    line = ["upscale", source, "-o", tmp_path / "out", *given, "--threads", "1", "-q"]
    assert cli.main([*map(str, line)]) == 0
    assert {name: bucket.cat_file(f"bucket/out/{name}") for name in NAMES} == made(source)


def samples(n):
    return [f"{index:06d}.png" for index in range(n)]


@LONG
def test_samples_in_a_folder(tmp_path):
    given = ["-m", latent_weights(tmp_path, "gan"), "-n", 300, "--batch", 4]
    done = two_commands("generate", *given, "-o", tmp_path / "out")
    assert sum(done) == 300
    assert cli.main([*map(str, ["generate", *given, "--threads", 1, "-o", tmp_path / "plain", "-q"])]) == 0
    both = [{path.name: path.read_bytes() for path in (tmp_path / name).iterdir()} for name in ("out", "plain")]
    assert both[0] == both[1]


def test_samples_in_a_store(bucket, tmp_path):
    given = ["-m", latent_weights(tmp_path, "gan"), "-n", 600]
    done = two_commands("generate", *given, "-o", "s3://bucket/out")
    assert sum(done) == 600
    assert objects(bucket) == {*samples(600), "samples.json"}
    assert cli.main([*map(str, ["generate", *given, "--threads", 1, "-o", tmp_path / "plain", "-q"])]) == 0
    for name in samples(600)[::40]:
        assert bucket.cat_file(f"bucket/out/{name}") == (tmp_path / "plain" / name).read_bytes()
