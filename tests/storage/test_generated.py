"""``gankit generate`` with URLs, of fsspec's own store in memory and of files."""

import io

import fsspec
import numpy as np
import pytest
from PIL import Image

from gankit import cli
from gankit.pipeline.sampler import Sampler
from gankit.storage import stores
from tests.latent_networks import weights


@pytest.fixture
def memory():
    store = fsspec.filesystem("memory")
    store.store.clear()
    store.pseudo_dirs[:] = [""]
    return store


@pytest.fixture
def model(tmp_path):
    return weights(tmp_path, "gan")


def run(*arguments):
    return cli.main(["generate", *map(str, arguments)])


def names(n):
    return [f"{index:06d}.png" for index in range(n)]


def objects(memory, root="/bucket/out"):
    return {path[len(root) + 1 :]: memory.cat_file(path) for path in memory.find(root)}


def test_the_objects_are_the_files_of_a_folder(memory, model, tmp_path, capsys):
    assert run("-m", model, "-n", 5, "--seed", 3, "-o", tmp_path / "out", "--batch", 2) == 0
    local = capsys.readouterr()
    assert run("-m", model, "-n", 5, "--seed", 3, "-o", "memory://bucket/out/", "--batch", 2) == 0
    remote = capsys.readouterr()
    assert objects(memory) == {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    assert remote.err == local.err == ""
    assert remote.out.splitlines()[0] == local.out.splitlines()[0]


def test_what_is_there_is_skipped_and_other_samples_are_refused(memory, model, capsys):
    assert run("-m", model, "-n", 3, "-o", "memory://bucket/out", "-q") == 0
    memory.pipe_file("/bucket/out/000000.png", b"mine")
    memory.rm_file("/bucket/out/000001.png")
    assert run("-m", model, "-n", 4, "-o", "memory://bucket/out") == 0
    assert "2 done, 2 skipped (results exist)" in capsys.readouterr().out
    assert memory.cat_file("/bucket/out/000000.png") == b"mine"
    assert run("-m", model, "-n", 4, "-o", "memory://bucket/out", "--seed", 1) == 2
    assert capsys.readouterr().err == (
        "error: memory://bucket/out: contains samples of another seed (see samples.json); "
        "use another --output, or --overwrite\n"
    )


def test_the_sample_grid_goes_to_a_url_too(memory, model):
    assert run("-m", model, "-n", 2, "-o", "memory://bucket/out", "--grid", "memory://bucket/grid.png", "-q") == 0
    grid = np.asarray(Image.open(io.BytesIO(memory.cat_file("/bucket/grid.png"))))
    assert np.array_equal(grid[:, :12], Sampler(model).sample(2)[0])


def test_a_failed_put_fails_one_sample_and_the_next_run_makes_it(memory, model, monkeypatch, capsys):
    send = stores.Remote._send

    def fails(store, path, key, **how):
        if key.endswith("/000001.png"):
            raise OSError("connection lost")
        send(store, path, key, **how)

    monkeypatch.setattr(stores.Remote, "_send", fails)
    assert run("-m", model, "-n", 3, "-o", "memory://bucket/out") == 1
    printed = capsys.readouterr()
    assert printed.err == "error: memory://bucket/out/000001.png: cannot be written: connection lost\n"
    assert "2 done, 1 failed" in printed.out
    monkeypatch.undo()
    assert run("-m", model, "-n", 3, "-o", "memory://bucket/out", "-q") == 0
    assert set(objects(memory)) == {*names(3), "samples.json"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-o", "nosuch://bucket/out"], "use s3://, gs://, file:// or another of fsspec"),
        (["-o", "file://host/out"], "a file URL begins with file:///"),
        (["-o", "out", "--grid", "memory://grid.png"], "memory://grid.png: names no file"),
        (["-o", "out", "--grid", "memory://bucket/grid.xyz"], "unknown format '.xyz' of the sample grid"),
        (["-o", "memory://bucket/out", "--reconstruct", "in"], "--reconstruct writes to local folders only"),
        (["-o", "out", "--reconstruct", "memory://bucket/in"], "--reconstruct reads local folders"),
        (["-o", "out", "--reconstruct", "in", "--cluster"], "omit --cluster"),
        (["-o", "out", "--cluster", "photos/"], "'photos/' is no address of a cluster"),
    ],
)
def test_wrong_use_is_one_line(memory, model, tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in").mkdir()
    assert run("-m", model, *arguments) == 2
    printed = capsys.readouterr()
    assert message in printed.err
    assert printed.err.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_store_that_refuses_ends_the_run_at_once(memory, model, monkeypatch, capsys):
    def refuses(store, path, key, **how):
        raise PermissionError(13, "Access Denied")

    monkeypatch.setattr(stores.Remote, "_send", refuses)
    assert run("-m", model, "-n", 3, "-o", "memory://bucket/out") == 2
    assert "memory://bucket/out/samples.json: cannot be written" in capsys.readouterr().err


def test_file_urls_are_paths(model, tmp_path):
    assert run("-m", model, "-n", 2, "-o", (tmp_path / "out").as_uri(), "-q") == 0
    assert {path.name for path in (tmp_path / "out").iterdir()} == {*names(2), "samples.json"}


def test_nothing_stays_in_the_temporary_folder(memory, model, tmp_path, monkeypatch):
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    assert run("-m", model, "-n", 3, "-o", "memory://bucket/out", "-q") == 0
    assert [*(tmp_path / "temporary").iterdir()] == []


@pytest.fixture
def originals(tmp_path):
    """A folder with an image of the model's size."""
    folder = tmp_path / "in"
    folder.mkdir()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (8, 8), dtype=np.uint8)).save(folder / "a.png")
    return folder


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (["memory://bucket/in", "-o", "out"], "memory://bucket/in: --reconstruct reads local folders; copy the images"),
        (["{in}", "-o", "memory://bucket/out"], "memory://bucket/out: --reconstruct writes to local folders only; use"),
        (["{in}", "-o", "out", "--cluster", "local"], "--reconstruct runs on this machine; omit --cluster"),
        (["{in}", "-o", "s3://bucket/out"], "s3://bucket/out: --reconstruct writes to local folders only; use another"),
    ],
)
def test_reconstructions_are_local_which_is_said_before_anything_is_read(
    memory, originals, tmp_path, monkeypatch, capsys, words, error
):
    monkeypatch.chdir(tmp_path)
    words = [word.replace("{in}", str(originals)) for word in words]
    assert run("-m", "there-is-no-such-model.safetensors", "--reconstruct", *words) == 2
    assert capsys.readouterr().err.startswith(f"error: {error}")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in"]
    assert objects(memory) == {}


def test_reconstructions_of_file_urls_with_a_grid_in_a_store(memory, originals, tmp_path):
    model = weights(tmp_path, "vae")
    given = ["-m", model, "--reconstruct", originals.as_uri(), "-o", (tmp_path / "out").as_uri()]
    assert run(*given, "--grid", "memory://bucket/grid.png") == 0
    assert [path.name for path in (tmp_path / "out").glob("*.png")] == ["a.png"]
    assert Image.open(io.BytesIO(memory.cat_file("/bucket/grid.png"))).size == (18, 8)
