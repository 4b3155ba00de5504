"""Folders and text files of results."""

import json
import os
import time
from pathlib import Path

import pytest
from PIL import Image

import gankit
from gankit.errors import CheckpointError, OutputError
from gankit.pipeline.output import prepare, remove_stale, write_whole


def test_prepare_makes_the_folder_and_leaves_nothing_in_it(tmp_path):
    prepare(tmp_path / "a" / "b")
    assert not list((tmp_path / "a" / "b").iterdir())
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match=r"a file is in its place; use another --report"):
        prepare(tmp_path / "file", "--report")


def test_stale_parts_are_removed(tmp_path):
    old, new = tmp_path / f".gankit-{'0' * 16}.part", tmp_path / f".gankit-{'1' * 16}.part"
    mine = [tmp_path / name for name in ("a.part", ".gankit-notes.part", f".gankit-{'0' * 16}.png")]
    for path in (old, new, *mine):
        path.touch()
        if path != new:
            os.utime(path, (time.time() - 90_000,) * 2)
    remove_stale(tmp_path)
    assert set(tmp_path.iterdir()) == {new, *mine}
    remove_stale(tmp_path / "missing")


def test_text_is_on_the_disk_before_its_name(tmp_path, monkeypatch):
    steps, fsync, replace = [], os.fsync, Path.replace
    monkeypatch.setattr(os, "fsync", lambda file: (steps.append(os.fstat(file).st_size), fsync(file)))
    monkeypatch.setattr(Path, "replace", lambda self, to: (steps.append("rename"), replace(self, to)))
    write_whole(tmp_path / "a.txt", "four")
    assert steps == [4, "rename"]
    assert (tmp_path / "a.txt").read_text() == "four"


def test_names_in_a_text_need_not_be_text(tmp_path):
    name = "a\udcff.png"  # as Python has the byte 0xff in a name
    write_whole(tmp_path / "a.json", json.dumps([name], ensure_ascii=False))
    assert json.loads((tmp_path / "a.json").read_text()) == [name]


def test_a_run_that_is_refused_leaves_no_empty_folders(tmp_path):
    """The model is read after the folders are made, and is no model."""
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    (tmp_path / "w.pth").write_text("no weights")
    (tmp_path / "kept").mkdir()
    for output in (tmp_path / "new" / "deep", tmp_path / "kept"):
        with gankit.Upscaler(tmp_path / "w.pth") as upscaler, pytest.raises(CheckpointError):
            upscaler.run(tmp_path / "a.png", output)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.png", "kept", "w.pth"]
