"""``s3://`` against an S3 server of the tests' own, on loopback."""

import re
import subprocess
import sys
import threading

import pytest
from storage_fakes import png, run, save_weights, statuses, upscaler

from gankit import cli
from gankit.storage import stores
from tests.latent_networks import weights as latent_weights
from tests.s3_server import s3_server, use

pytest.importorskip("s3fs", reason="s3fs is not installed")
pytest.importorskip("moto.server", reason="moto is not installed")

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]
NAMES = ("a.png", "b.png", "deep/c.png")


@pytest.fixture(scope="module")
def server():
    with s3_server() as variables:
        yield variables


@pytest.fixture
def bucket(server, monkeypatch):
    store = use(server, monkeypatch)
    if store.exists("photos"):
        store.rm("photos", recursive=True)
    store.mkdir("photos")
    for seed, name in enumerate(NAMES):
        store.pipe_file(f"photos/in/{name}", png(seed))
    return store


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    return save_weights(tmp_path_factory.mktemp("weights") / "small.safetensors")


def test_in_and_out(bucket, weights, tmp_path):
    for seed, name in enumerate(NAMES):
        path = tmp_path / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(seed))
    with upscaler(weights) as pipeline:
        pipeline.run(tmp_path / "in", tmp_path / "out")
    report = run(weights, "s3://photos/in/", "s3://photos/out/")
    assert report.totals.done == 3
    for name in NAMES:
        assert bucket.cat_file(f"photos/out/{name}") == (tmp_path / "out" / name).read_bytes()


def test_a_second_run_does_what_changed(bucket, weights):
    run(weights, "s3://photos/in", "s3://photos/out")
    assert set(statuses(run(weights, "s3://photos/in", "s3://photos/out")).values()) == {"skipped"}
    bucket.pipe_file("photos/in/a.png", png(9))
    bucket.rm_file("photos/out/b.png")
    report = run(weights, "s3://photos/in", "s3://photos/out")
    assert statuses(report) == {"a.png": "source", "b.png": "done", "c.png": "skipped"}


def test_a_killed_run_is_continued(bucket, weights):
    """The process is killed in earnest, once it has written some results."""
    for seed in range(60):
        bucket.pipe_file(f"photos/many/{seed}.png", png(seed, (24, 24)))
    line = [sys.executable, "-m", "gankit", "upscale", "s3://photos/many", "-o", "s3://photos/out", "-q"]
    line += ["-m", str(weights), "--backend", "eager", "--precision", "fp32", "--threads", "1"]
    process = subprocess.Popen(line)
    while process.poll() is None and not [path for path in bucket.find("photos/out") if path.endswith(".png")]:
        pass
    process.kill()
    process.wait()
    made = {path for path in bucket.find("photos/out") if path.endswith(".png")}
    times = {path: bucket.info(path)["LastModified"] for path in made}
    assert made
    assert subprocess.run(line, check=False).returncode == 0
    assert len([path for path in bucket.find("photos/out") if path.endswith(".png")]) == 60
    assert {path: bucket.info(path)["LastModified"] for path in made} == times


def test_two_runs_at_once_share_the_work(bucket, weights):
    for seed in range(60):
        bucket.pipe_file(f"photos/many/{seed:02}.png", png(seed, (24, 24)))
    line = [sys.executable, "-m", "gankit", "upscale", "s3://photos/many", "-o", "s3://photos/out"]
    line += ["-m", str(weights), "--backend", "eager", "--precision", "fp32", "--threads", "1"]
    processes = [subprocess.Popen(line, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    printed = [process.communicate()[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    done = [int(re.search(r"(\d+) done", text)[1]) for text in printed]
    assert sum(done) == 60
    assert len([path for path in bucket.find("photos/out") if path.endswith(".png")]) == 60
    assert [path for path in bucket.find("photos/out") if ".gankit-claims" in path] == []


def test_only_one_is_first(bucket):
    store = stores.Remote("s3://photos/out")
    store.create("a", b"first")
    with pytest.raises(FileExistsError):
        store.create("a", b"second")
    assert store.read("a") == b"first"
    store.remove(["a"])
    store.create("a", b"third")


def test_an_object_that_is_written_again_has_another_stamp(bucket):
    """Its content, and so its ETag, may be the same: another run has made the same result."""
    store = stores.Remote("s3://photos/out")
    store.write("a", b"content")
    before = store.find("a")
    assert [item.stamp for item in store.objects()] == [before.stamp]
    deadline = 100
    while store.find("a").stamp == before.stamp:  # the store knows whole seconds
        store.write("a", b"content")
        threading.Event().wait(0.1)
        deadline -= 1
        assert deadline
    assert store.find("a").state == before.state


def test_generated_samples(bucket, tmp_path, capsys):
    given = ["generate", "-m", str(latent_weights(tmp_path, "gan")), "-n", "5", "--batch", "2", "-o"]
    assert cli.main([*given, "s3://photos/samples"]) == 0
    assert cli.main([*given, str(tmp_path / "samples")]) == 0
    for path in (tmp_path / "samples").iterdir():
        assert bucket.cat_file(f"photos/samples/{path.name}") == path.read_bytes()
    assert cli.main([*given, "s3://photos/samples"]) == 0
    assert "0 done, 5 skipped" in capsys.readouterr().out


def test_on_a_cluster(bucket, weights, tmp_path, capsys):
    """Images and samples from a bucket to a bucket, by the workers of a Ray of this machine."""
    pytest.importorskip("ray.data", reason="Ray Data is not installed")
    import ray

    ray.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    try:
        line = ["upscale", "s3://photos/in", "-m", str(weights), "--backend", "eager", "--precision", "fp32"]
        line += ["--threads", "1"]
        assert cli.main([*line, "-o", "s3://photos/plain", "-q"]) == 0
        assert cli.main([*line, "-o", "s3://photos/out", "--cluster", "local"]) == 0
        assert "3 done" in capsys.readouterr().out
        for name in NAMES:
            assert bucket.cat_file(f"photos/out/{name}") == bucket.cat_file(f"photos/plain/{name}")
        assert [path for path in bucket.find("photos/out") if ".gankit-claims" in path] == []
        assert cli.main([*line, "-o", "s3://photos/out", "--cluster", "local"]) == 0
        assert "3 skipped" in capsys.readouterr().out
        line = ["generate", "-m", str(latent_weights(tmp_path, "gan")), "-n", "9", "--batch", "2", "--threads", "1"]
        assert cli.main([*line, "-o", str(tmp_path / "samples"), "-q"]) == 0
        assert cli.main([*line, "-o", "s3://photos/samples", "--cluster", "local"]) == 0
        for path in (tmp_path / "samples").iterdir():
            assert bucket.cat_file(f"photos/samples/{path.name}") == path.read_bytes()
    finally:
        ray.shutdown()


def test_a_bucket_that_is_not_there(bucket, weights):
    from gankit.errors import UsageError

    with pytest.raises(UsageError, match="s3://nowhere/in: no such"):
        run(weights, "s3://nowhere/in", "s3://photos/out")


def test_reconstructions(bucket, tmp_path, capsys):
    model, source = latent_weights(tmp_path, "vae"), tmp_path / "in"
    source.mkdir()
    for seed in range(3):
        (source / f"{seed}.png").write_bytes(png(seed, (8, 8)))
        bucket.pipe_file(f"photos/small/{seed}.png", png(seed, (8, 8)))
    given = ["generate", "-m", str(model), "--reconstruct"]
    assert cli.main([*given, str(source), "-o", str(tmp_path / "out"), "-q"]) == 0
    there = [*given, "s3://photos/small", "-o", "s3://photos/out", "--grid", "s3://photos/grid.png"]
    assert cli.main(there) == 0
    for seed in range(3):
        assert bucket.cat_file(f"photos/out/{seed}.png") == (tmp_path / "out" / f"{seed}.png").read_bytes()
    assert bucket.exists("photos/grid.png")
    capsys.readouterr()
    assert cli.main(there) == 0
    assert capsys.readouterr().out == "0 done, 3 skipped (results exist)\n"
