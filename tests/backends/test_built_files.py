"""Files that backends build: cached by their content, verified before use, built again where they changed."""

import pytest
import torch

from gankit.backends.base import EngineSpec
from gankit.backends.built_files import open_built
from gankit.backends.cached import cached_files
from gankit.errors import BackendError
from gankit.models.facts import Facts
from gankit.paths import cache_folder

FACTS = Facts(task="upscale", value_range=(0, 1), name="my/net")


@pytest.fixture
def builds(monkeypatch, tmp_path):
    """Opens a built file, and counts how often it was built and what was reported."""
    monkeypatch.setenv("GANKIT_CACHE", str(tmp_path / "cache"))
    lines, count = [], []
    torch.manual_seed(0)
    module = torch.nn.Conv2d(3, 3, 1)

    def build(path):
        count.append(path)
        path.write_text("layers")
        path.with_suffix(".bin").write_text("weights")

    def open_it(needs=(), open_file=lambda path: path, build=build):
        spec = EngineSpec(module, FACTS, notify=lines.append)
        return open_built(spec, "ncnn", (".param", ".bin"), build, open_file, needs=needs)

    return open_it, count, lines


def test_it_is_built_once(builds):
    open_it, count, lines = builds
    path = open_it()
    assert open_it() == path
    assert (len(count), lines) == (1, [])
    assert path.parent == cache_folder() / "ncnn"
    assert path.name.startswith("my_net-")
    assert [item.name for item in path.parent.iterdir() if item.name.startswith(".")] == []
    assert open_it(needs=("another version",)) != path
    assert len(count) == 2


@pytest.mark.parametrize("suffix", [".param", ".bin"])
@pytest.mark.parametrize("damage", ["change", "delete"])
def test_a_file_that_changed_is_built_again(builds, suffix, damage):
    open_it, count, lines = builds
    part = open_it().with_suffix(suffix)
    if damage == "change":
        part.write_text("other weights")
    else:
        part.unlink()
    assert open_it().with_suffix(".bin").read_text() == "weights"
    assert len(count) == 2
    assert len(lines) == (0 if (suffix, damage) == (".param", "delete") else 1)


def test_a_file_that_does_not_open_is_built_once_more(builds):
    open_it, count, lines = builds
    open_it()
    seen = []

    def fails_first(path):
        seen.append(path)
        if len(seen) == 1:
            raise ValueError("damaged")
        return path

    assert open_it(open_file=fails_first) == seen[-1]
    assert len(count) == 2
    assert "cannot be opened; building it again" in lines[0]


def test_a_failed_build_leaves_nothing(builds):
    open_it, _, _ = builds

    def fails(path):
        path.write_text("half")
        raise BackendError("no")

    with pytest.raises(BackendError, match="no"):
        open_it(build=fails)
    assert list((cache_folder() / "ncnn").iterdir()) == []


def test_a_cache_that_cannot_be_written_is_one_line(builds, tmp_path):
    open_it, _, _ = builds
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "ncnn").write_text("a file in its place")
    with pytest.raises(BackendError, match="set GANKIT_CACHE to a folder with free space"):
        open_it()


def test_gankit_cache_knows_them(builds):
    open_it, _, _ = builds
    path = open_it()
    (item,) = cached_files()
    assert (item.kind, item.model, item.size) == ("ncnn", "my_net", len("layers") + len("weights"))
    assert item.problem() is None
    path.with_suffix(".bin").write_text("other")
    assert item.problem() == "has changed since gankit wrote it"
    item.delete()
    assert list(path.parent.iterdir()) == []
