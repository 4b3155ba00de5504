"""Links in folders that gankit writes to, as another user of the machine might plant them."""

import csv
import os
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from gankit_export.files import append_bytes, atomic_path
from PIL import Image

import gankit
from gankit import checkpoints, cli
from gankit.errors import OutputError
from gankit.pipeline.output import check_inside, write_whole
from gankit.storage import stores
from gankit.training.log import Log
from gankit.training.state import whole
from gankit.training.translation_data import write_held_out
from tests.networks import save_visible_srgan

pytestmark = pytest.mark.skipif(os.name != "posix", reason="links need no rights on POSIX")


@pytest.fixture
def victim(tmp_path):
    """A file of the user that nobody may change through a link."""
    path = tmp_path / "elsewhere" / "precious.txt"
    path.parent.mkdir()
    path.write_text("precious")
    yield path
    assert path.read_text() == "precious"
    assert [each.name for each in path.parent.iterdir()] == ["precious.txt"]


@pytest.fixture
def out(tmp_path):
    folder = tmp_path / "out"
    folder.mkdir()
    return folder


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    return save_visible_srgan(tmp_path_factory.mktemp("weights") / "small.safetensors")


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "in"
    for name in ("a.png", "sub/b.png"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(0).integers(0, 256, (8, 9, 3), np.uint8)
        Image.fromarray(pixels).save(folder / name)
    return folder


@pytest.fixture
def upscaler(weights):
    with gankit.Upscaler(weights, backend="eager", precision="fp32", threads=1) as made:
        yield made


def guessable(path):
    """The names that programs often give to unfinished files."""
    own = (f".{path.name}.part", f"{path.name}.part", f"{path.name}.tmp", f".{path.name}.tmp", f"{path.name}~")
    return [path.with_name(name) for name in (*own, f".{path.name}.{os.getpid()}", f".gankit-{os.getpid()}.part")]


WRITERS = {
    "text": lambda path: write_whole(path, "new"),
    "image": lambda path: gankit.images.encode(gankit.images.from_array(np.zeros((4, 4, 3), np.uint8)), path),
    "weights": lambda path: checkpoints.save(path, {"a": torch.zeros(1)}, "srgan", {}),
    "store": lambda path: stores.Local(str(path.parent)).put(made(path.parent.parent / "new"), path.name),
}


def made(path):
    path.write_text("new")
    return path


@pytest.mark.parametrize("kind", WRITERS)
@pytest.mark.parametrize("where", ["result", "temporary"])
def test_a_link_under_the_name_of_a_file_is_replaced_and_not_followed(victim, out, kind, where):
    suffix = {"image": ".png", "weights": ".safetensors"}.get(kind, ".txt")
    path = out / f"a{suffix}"
    for link in [path] if where == "result" else guessable(path):
        link.symlink_to(victim)
    WRITERS[kind](path)
    assert path.is_file()
    assert not path.is_symlink()


def test_training_follows_no_link(victim, out):
    for name in ("last.pt", "held_out.txt", "log.csv"):
        for link in {out / name, *guessable(out / name)} - {*out.iterdir()}:
            link.symlink_to(victim)
    with whole(out / "last.pt") as temporary:
        torch.save({"step": 1}, temporary)
    write_held_out(out, {"": ["a"]})
    log = Log(out / "log.csv")
    log.begin(0)
    log.take({"loss": 1.0})
    log.write(SimpleNamespace(step=1, rate=2.0))
    with (out / "log.csv").open(newline="") as file:
        assert len(list(csv.reader(file))) == 3
    (out / "log.csv").unlink()
    (out / "log.csv").symlink_to(victim)
    log.take({"loss": 1.0})
    with pytest.raises(OutputError, match=r"log\.csv: cannot be written: it is a link, and gankit follows none there"):
        log.write(SimpleNamespace(step=2, rate=2.0))


def test_appending(victim, out):
    (out / "link").symlink_to(victim)
    with pytest.raises(OSError, match="it is a link"):
        append_bytes(out / "link", b"more")
    append_bytes(out / "new", b"a")
    append_bytes(out / "new", b"b")
    assert (out / "new").read_bytes() == b"ab"


def test_the_temporary_name_differs_each_time(out):
    names = set()
    for _ in range(20):
        with atomic_path(out / "a.txt") as temporary:
            names.add(temporary.name)
            temporary.write_text("new")
    assert len(names) == 20


def test_a_run_replaces_a_link_under_the_name_of_a_result(victim, upscaler, photos, out):
    (out / "a.png").symlink_to(victim)
    assert upscaler.run(photos / "a.png", out).totals.kept == 1
    assert upscaler.run(photos / "a.png", out, overwrite=True).totals.done == 1
    assert not (out / "a.png").is_symlink()


def test_a_run_appends_to_no_journal_that_is_a_link(victim, upscaler, photos, out):
    (out / ".gankit.jsonl").symlink_to(victim)
    with pytest.raises(OutputError, match=r"\.gankit\.jsonl: cannot be written: it is a link"):
        upscaler.run(photos, out)


@pytest.mark.parametrize("beside", [False, True])
def test_a_run_follows_no_linked_subfolder(victim, upscaler, photos, out, beside):
    target = photos.with_name("in_x4") if beside else out
    target.mkdir(exist_ok=True)
    (target / "sub").symlink_to(victim.parent)
    with pytest.raises(OutputError, match=r"sub: is a link that leads out of the output folder .*; remove it or use"):
        upscaler.run(photos, None if beside else out)
    assert [path.name for path in target.iterdir()] == ["sub"]


def test_a_link_that_is_planted_during_the_run_is_not_followed(victim, upscaler, photos, out):
    def plant(state):
        if state.done and not (out / "sub").is_symlink():
            (out / "sub").rmdir() if (out / "sub").exists() else None
            (out / "sub").symlink_to(victim.parent)

    for seed in range(40):
        Image.fromarray(np.full((8, 8, 3), seed, np.uint8)).save(photos / f"a{seed:02}.png")
    with pytest.raises(OutputError, match="is a link that leads out of the output folder"):
        upscaler.run(photos, out, progress=plant)


def test_from_a_store_too(victim, weights, photos, out, capsys):
    fsspec = pytest.importorskip("fsspec", reason="fsspec is not installed")
    store = fsspec.filesystem("memory")
    store.store.clear()
    store.pseudo_dirs[:] = [""]  # of tests before this one
    store.put(str(photos), "/bucket/in", recursive=True)
    (out / "sub").symlink_to(victim.parent)
    line = ["upscale", "memory://bucket/in", "-o", str(out), "-m", str(weights), "--backend", "eager", "-q"]
    assert cli.main(line) == 2
    assert "sub: is a link that leads out of the output folder" in capsys.readouterr().err


def test_links_that_stay_inside_and_a_linked_output_folder_are_fine(tmp_path, out):
    (out / "real").mkdir()
    (out / "link").symlink_to("real")
    (tmp_path / "name").symlink_to(out)
    check_inside(out / "link" / "deep", [out])
    check_inside(tmp_path / "name" / "real", [tmp_path / "name"])
    check_inside(tmp_path / "other", [out])
