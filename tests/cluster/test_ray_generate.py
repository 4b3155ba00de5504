"""Samples on a Ray of this machine with two workers: the files of a run without it."""

import threading
import time

import numpy as np
import psutil
import pytest
from PIL import Image

from gankit import cli
from gankit.cluster import write_samples_on_cluster
from gankit.pipeline.generated_files import Destination, LocalFolder
from gankit.pipeline.generation import SampleRequest, write_samples
from gankit.pipeline.sampler import Sampler
from tests.latent_networks import weights

ray = pytest.importorskip("ray", reason="Ray is not installed")
pytest.importorskip("ray.data", reason="Ray Data is not installed")

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


@pytest.fixture(scope="module")
def cluster():
    ray.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


def run(*arguments):
    return cli.main(["generate", *map(str, arguments)])


def content(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("extra", [[], ["--interpolate", 5]])
def test_the_command_writes_the_files_of_a_run_without_a_cluster(cluster, tmp_path, capsys, extra):
    given = ["-m", weights(tmp_path, "cgan"), "-n", 30, "--seed", 7, "--batch", 4, "--threads", 1, *extra]
    assert run(*given, "-o", tmp_path / "plain", "--grid", tmp_path / "plain.png") == 0
    plain = capsys.readouterr().out
    assert run(*given, "-o", tmp_path / "out", "--grid", tmp_path / "out.png", "--cluster", "local") == 0
    there = capsys.readouterr().out
    assert content(tmp_path / "out") == content(tmp_path / "plain")
    assert (tmp_path / "out.png").read_bytes() == (tmp_path / "plain.png").read_bytes()
    assert there.splitlines()[0] == plain.splitlines()[0]
    assert there.splitlines()[1].split(" in ")[0] == plain.splitlines()[1].split(" in ")[0]
    assert run(*given, "-o", tmp_path / "out", "--cluster", "local") == 0
    assert capsys.readouterr().out.startswith("0 done, ")


def test_a_worker_is_killed(cluster, tmp_path):
    path, log = str(weights(tmp_path, "gan")), tmp_path / "log"

    def worker(engine):
        import os
        import time

        from gankit.pipeline import generation
        from gankit.pipeline.sampler import Sampler

        make = generation.stream_of

        def slow(sampler, request):
            time.sleep(0.1)
            with log.open("ab", buffering=0) as file:
                file.write(f"{os.getpid()}\n".encode())
            return make(sampler, request)

        generation.stream_of = slow
        return Sampler(path, engine=engine)

    def kill():
        while not log.exists() or len(log.read_text().splitlines()) < 3:
            time.sleep(0.02)
        psutil.Process(int(log.read_text().splitlines()[0])).kill()

    killer = threading.Thread(target=kill, daemon=True)
    killer.start()
    seen = []
    request, out = SampleRequest(60, seed=2), Destination(LocalFolder(tmp_path / "out"))
    with Sampler(path, batch=2, threads=1) as sampler:
        outcome = write_samples_on_cluster(
            sampler, request, out, lambda state: seen.append(state.current), print, address="local", worker=worker
        )
    killer.join()
    assert (outcome.done, outcome.failed) == (60, 0)
    assert sorted(seen) == sorted(tmp_path / "out" / f"{index:06d}.png" for index in range(60))
    assert outcome.engine.backend == "eager"
    assert run("-m", path, "-n", 60, "--seed", 2, "--batch", 2, "--threads", 1, "-o", tmp_path / "plain", "-q") == 0
    made = content(tmp_path / "out")
    parts = [name for name in made if name.startswith(".gankit-") and name.endswith(".part")]
    assert len(parts) <= 2  # what the killed process was writing, in several threads
    assert {name: made[name] for name in made if name not in parts} == content(tmp_path / "plain")


def test_another_run_on_the_same_folder(cluster, tmp_path):
    """A run of this process, which begins when a worker has made its first samples. No worker is lost."""
    path, log = str(weights(tmp_path, "gan")), tmp_path / "log"

    def worker(engine):
        import time

        from gankit.pipeline import generation
        from gankit.pipeline.sampler import Sampler

        make = generation.stream_of

        def slow(sampler, request):
            time.sleep(0.2)
            with log.open("ab", buffering=0) as file:
                file.write(b"a call\n")
            return make(sampler, request)

        generation.stream_of = slow
        return Sampler(path, engine=engine)

    request, out, plain = SampleRequest(60, seed=2), Destination(LocalFolder(tmp_path / "out")), []

    def other():
        while not log.exists():
            time.sleep(0.02)
        with Sampler(path, batch=2, threads=1) as sampler:
            plain.append(write_samples(sampler, request, out, lambda state: time.sleep(0.05), print))

    thread = threading.Thread(target=other, daemon=True)
    thread.start()
    with Sampler(path, batch=2, threads=1) as sampler:
        there = write_samples_on_cluster(
            sampler, request, out, lambda state: None, print, address="local", worker=worker
        )
    thread.join()
    assert there.done + plain[0].done == 60
    assert min(there.done, plain[0].done) > 0
    assert {(each.done + each.skipped, each.failed) for each in (there, plain[0])} == {(60, 0)}
    assert len(log.read_text().splitlines()) <= there.done // 2 + 1, "no call for samples that the other run makes"
    assert run("-m", path, "-n", 60, "--seed", 2, "--batch", 2, "--threads", 1, "-o", tmp_path / "alone", "-q") == 0
    assert content(tmp_path / "out") == content(tmp_path / "alone")


def test_reconstructions(cluster, tmp_path, capsys):
    source = tmp_path / "in"
    source.mkdir()
    for seed in range(20):
        pixels = np.random.default_rng(seed).integers(0, 256, (8, 8), np.uint8)
        Image.fromarray(pixels).save(source / f"{seed:02}.png")
    (source / "torn.png").write_bytes((source / "00.png").read_bytes()[:60])
    given = ["-m", weights(tmp_path, "vae"), "--reconstruct", source, "--threads", 1, "--batch", 2]
    assert run(*given, "-o", tmp_path / "plain", "--grid", tmp_path / "plain.png") == 1
    plain = capsys.readouterr()
    assert run(*given, "-o", tmp_path / "out", "--grid", tmp_path / "out.png", "--cluster", "local") == 1
    there = capsys.readouterr()
    images = {name: made for name, made in content(tmp_path / "out").items() if name.endswith(".png")}
    assert images == {name: made for name, made in content(tmp_path / "plain").items() if name.endswith(".png")}
    assert (tmp_path / "out.png").read_bytes() == (tmp_path / "plain.png").read_bytes()
    assert there.err == plain.err
    assert there.out.split(" in ")[0] == plain.out.split(" in ")[0]
    assert run(*given, "-o", tmp_path / "out", "--cluster", "local") == 1
    assert "0 done, 20 skipped (results exist), 1 failed" in capsys.readouterr().out
