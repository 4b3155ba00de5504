"""``gankit generate`` with URLs, of fsspec's own store in memory and of files."""

import io

import numpy as np
import pytest
from PIL import Image

from gankit import cli
from gankit.pipeline.sampler import Sampler
from gankit.storage import stores
from tests.latent_networks import weights
from tests.memory_store import empty_store


@pytest.fixture
def memory():
    return empty_store()


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
        (["-o", "out", "--reconstruct", "memory://bucket/in"], "'gan' has no encoder"),
        (["-o", "out", "--reconstruct", "in", "--cluster", "photos/"], "'photos/' is no address of a cluster"),
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
    """A folder with images of the model's size, one of which is below it, and one that is torn."""
    folder = tmp_path / "in"
    (folder / "sub").mkdir(parents=True)
    for seed, name in enumerate(["a.png", "b.png", "sub/c.png"]):
        noise = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(noise[..., 0] if seed else noise).save(folder / name)
    (folder / "torn.png").write_bytes((folder / "a.png").read_bytes()[:60])
    return folder


def put(memory, folder):
    for path in folder.rglob("*.png"):
        memory.pipe_file(f"/bucket/in/{path.relative_to(folder).as_posix()}", path.read_bytes())


@pytest.mark.parametrize(
    ("source", "target"),
    [("memory://bucket/in", "memory://bucket/out"), ("{in}", "memory://bucket/out"), ("memory://bucket/in/", "{out}")],
)
def test_reconstructions_of_urls_are_those_of_a_folder(memory, originals, tmp_path, capsys, source, target):
    given = ["-m", weights(tmp_path, "vae"), "--batch", 3]
    put(memory, originals)
    places = {"in": str(originals), "out": str(tmp_path / "there")}
    source, target = source.format(**places), target.format(**places)
    local = run(*given, "--reconstruct", originals, "-o", tmp_path / "out", "--grid", tmp_path / "grid.png")
    plain = capsys.readouterr()
    there = run(*given, "--reconstruct", source, "-o", target, "--grid", "memory://bucket/grid.png")
    remote = capsys.readouterr()
    assert local == there == 1
    made = objects(memory)
    if not target.startswith("memory"):
        made = {path.relative_to(target).as_posix(): path.read_bytes() for path in (tmp_path / "there").rglob("*.png")}
    made = {name: content for name, content in made.items() if not name.startswith(".")}
    wanted = {path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*.png")}
    assert wanted == {"a.png", "b.png", "sub/c.png"}
    assert made == {name: (tmp_path / "out" / name).read_bytes() for name in wanted}
    assert memory.cat_file("/bucket/grid.png") == (tmp_path / "grid.png").read_bytes()
    assert remote.out.split(" in ")[0] == plain.out.split(" in ")[0]
    assert "3 done, 1 failed" in remote.out
    name = "/torn.png: "
    assert remote.err.count("\n") == 1
    assert f"{source.rstrip('/')}{name}" in remote.err
    assert remote.err.partition(name)[2] == plain.err.partition(name)[2]


def test_reconstructions_in_stores_are_made_again_where_something_changed(memory, originals, tmp_path, capsys):
    (originals / "torn.png").unlink()
    put(memory, originals)
    given = ["-m", weights(tmp_path, "vae"), "--reconstruct", "memory://bucket/in", "-o", "memory://bucket/out"]
    assert run(*given, "-q") == 0
    before = objects(memory)
    memory.pipe_file("/bucket/in/b.png", (originals / "a.png").read_bytes())
    memory.rm_file("/bucket/out/sub/c.png")
    capsys.readouterr()
    assert run(*given) == 0
    assert "2 done, 1 skipped (results exist)" in capsys.readouterr().out
    after = objects(memory)
    assert after["sub/c.png"] == before["sub/c.png"]
    assert after["b.png"] != before["b.png"]
    assert run(*given) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "0 done, 3 skipped (results exist)"
    assert run(*given, "--overwrite") == 0
    assert "3 done" in capsys.readouterr().out
    assert objects(memory).keys() == after.keys()


def test_clips_are_no_images_of_an_autoencoder(memory, originals, tmp_path, capsys):
    (originals / "torn.png").unlink()
    put(memory, originals)
    memory.pipe_file("/bucket/in/clip.mp4", b"no clip")
    given = ["-m", weights(tmp_path, "vae"), "--reconstruct", "memory://bucket/in", "-o", "memory://bucket/out"]
    assert run(*given) == 0
    assert "3 done" in capsys.readouterr().out
    assert not any("clip" in name for name in objects(memory))


def test_a_grid_that_is_too_large_is_refused_before_anything_is_written(
    memory, originals, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr("gankit.images.MAX_PIXELS", 100)
    put(memory, originals)
    given = ["-m", weights(tmp_path, "vae"), "--grid", tmp_path / "grid.png", "--reconstruct"]
    for source, target in ((originals, tmp_path / "out"), ("memory://bucket/in", "memory://bucket/out")):
        assert run(*given, source, "-o", target) == 2
        assert "a sample grid of 8 images" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    assert objects(memory) == {}


def test_reconstructions_of_file_urls_with_a_grid_in_a_store(memory, originals, tmp_path):
    model = weights(tmp_path, "vae")
    (originals / "torn.png").unlink()
    given = ["-m", model, "--reconstruct", originals.as_uri(), "-o", (tmp_path / "out").as_uri()]
    assert run(*given, "--grid", "memory://bucket/grid.png") == 0
    assert {path.name for path in (tmp_path / "out").rglob("*.png")} == {"a.png", "b.png", "c.png"}
    assert Image.open(io.BytesIO(memory.cat_file("/bucket/grid.png"))).size == (58, 8)
