"""Clips whose source or result is a URL."""

import shutil
from collections import namedtuple
from pathlib import Path

import fsspec
import pytest

pytest.importorskip("av", reason="PyAV is not installed")
from PIL import Image
from video_making import pattern, write_clip

from gankit import cli
from gankit.errors import OutputError, UsageError
from gankit.storage.run import plan_remote, run_remote
from gankit.video import VideoOptions, run_files
from tests.memory_store import empty_store

QUICK = VideoOptions(crf=0, preset="ultrafast", segment=4)
Usage = namedtuple("Usage", "total used free")


@pytest.fixture
def memory():
    return empty_store()


@pytest.fixture
def mixed(memory, tmp_path):
    """A folder of clips, an image and two files that are none, here and in the store."""
    folder = tmp_path / "in"
    (folder / "sub").mkdir(parents=True)
    write_clip(folder / "a.mp4", 3)
    write_clip(folder / "sub" / "b.avi", 3, codec="mpeg4", options={"crf": "", "preset": ""})
    write_clip(folder / "camera.ts", 3)
    Image.fromarray(pattern(0)).save(folder / "c.png")
    (folder / "code.ts").write_text("const a = 1")
    (folder / "notes.txt").write_text("text")
    memory.put(str(folder), "/bucket/in", recursive=True)
    return folder


def objects(memory, root="/bucket/out"):
    found = {path[len(root) + 1 :]: memory.cat_file(path) for path in memory.find(root)}
    return {name: content for name, content in found.items() if not name.startswith(".")}


def files(root):
    found = (path for path in root.rglob("*") if path.is_file() and not path.name.startswith("."))
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in found}


def test_the_objects_are_the_files_of_a_folder(upscaler, mixed, memory, tmp_path):
    plain = run_files(upscaler, mixed, tmp_path / "out", video=QUICK)
    planned = plan_remote(upscaler, ["memory://bucket/in"], "memory://bucket/out", video=QUICK)
    report = run_remote(upscaler, ["memory://bucket/in"], "memory://bucket/out", video=QUICK)
    assert set(objects(memory)) == {"a.mp4", "sub/b.mkv", "camera.mkv", "c.png"}
    made, wanted = objects(memory), files(tmp_path / "out")
    assert set(made) == set(wanted)
    assert all(made[name] == wanted[name] for name in ("a.mp4", "c.png"))  # Matroska holds a random number
    assert [str(each.source).replace("memory://bucket/in", str(mixed)) for each in report.images] == [
        str(each.source) for each in plain.images
    ]
    assert sorted(str(each.job.target) for each in planned) == sorted(str(each.target) for each in report.images)
    assert (report.totals.done, report.totals.failed) == (4, 0)
    assert report.totals.ignored == plain.totals.ignored == 2
    assert [each.video.frames for each in report.images if each.video] == [3, 3, 3]
    assert "av" in report.versions
    again = run_remote(upscaler, ["memory://bucket/in"], "memory://bucket/out", video=QUICK)
    assert again.totals.skipped == 4
    other = run_remote(upscaler, ["memory://bucket/in"], "memory://bucket/out", video=VideoOptions(preset="ultrafast"))
    assert {each.again or each.status for each in other.images} == {"option", "skipped"}


@pytest.mark.parametrize("output", ["memory://bucket/up.mp4", "up.mp4"])
def test_one_clip_to_a_file(upscaler, memory, tmp_path, monkeypatch, output):
    monkeypatch.chdir(tmp_path)
    memory.put_file(str(write_clip(tmp_path / "a.mp4", 3)), "/bucket/a.mp4")
    [report] = run_remote(upscaler, ["memory://bucket/a.mp4"], output, video=QUICK).images
    assert (str(report.source), str(report.target), report.status) == ("memory://bucket/a.mp4", output, "done")
    made = memory.cat_file("/bucket/up.mp4") if "://" in output else Path(output).read_bytes()
    run_files(upscaler, tmp_path / "a.mp4", tmp_path / "plain.mp4", video=QUICK)
    assert made == (tmp_path / "plain.mp4").read_bytes()
    assert run_remote(upscaler, ["memory://bucket/a.mp4"], output, video=QUICK).totals.skipped == 1


def test_a_local_clip_to_a_store(upscaler, memory, tmp_path):
    clip = write_clip(tmp_path / "a.mp4", 3)
    [report] = run_remote(upscaler, [clip], "memory://bucket/out", video=QUICK).images
    assert str(report.target) == "memory://bucket/out/a.mp4"
    assert set(objects(memory)) == {"a.mp4"}


def test_a_clip_from_a_store_to_a_folder_is_continued(upscaler, engine, memory, tmp_path):
    memory.put_file(str(write_clip(tmp_path / "a.mp4", 12)), "/bucket/a.mp4")
    engine.fail_after = 9
    with pytest.raises(KeyboardInterrupt):
        run_remote(upscaler, ["memory://bucket/a.mp4"], tmp_path / "out", video=QUICK)
    engine.fail_after = None
    [report] = run_remote(upscaler, ["memory://bucket/a.mp4"], tmp_path / "out", video=QUICK).images
    assert report.video.resumed_frames >= 4


def test_a_damaged_clip_fails_by_its_url(upscaler, memory):
    memory.pipe_file("/bucket/in/bad.mp4", b"no video")
    [report] = run_remote(upscaler, ["memory://bucket/in"], "memory://bucket/out", video=QUICK).images
    assert report.status == "failed"
    assert report.error.startswith("memory://bucket/in/bad.mp4: cannot be read as a video")
    assert objects(memory) == {}


def test_a_clip_larger_than_the_free_disk_is_not_fetched(upscaler, memory, mixed, monkeypatch):
    def fetched(*_):
        raise AssertionError

    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(10**9, 10**9 - 100, 100))
    monkeypatch.setattr(fsspec.filesystem("memory").__class__, "get_file", fetched)
    [report] = run_remote(upscaler, ["memory://bucket/in/a.mp4"], "memory://bucket/out", video=QUICK).images
    assert report.error.startswith("memory://bucket/in/a.mp4: needs at least 0 MB in the temporary folder /")
    assert report.error.endswith("set TMPDIR to a folder of another disk")


def test_a_disk_that_runs_full_is_named_by_the_clip(upscaler, memory, mixed, monkeypatch):
    def full(*_, **__):
        raise OutputError("/tmp/gankit-clip-x/0/out/a.mp4: cannot be written: no space left on device")

    monkeypatch.setattr("gankit.video.join.join", full)
    with pytest.raises(OutputError, match="cannot be written: no space left on device"):
        run_remote(upscaler, ["memory://bucket/in/a.mp4"], "memory://bucket/out", video=QUICK)
    assert objects(memory) == {}


def test_temporary_files_have_names_that_nobody_can_guess_and_are_removed(
    upscaler, memory, mixed, tmp_path, monkeypatch
):
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    seen, fetch = [], fsspec.filesystem("memory").__class__.get_file

    def records(store, key, path, **rest):
        seen.append(Path(path))
        fetch(store, key, path, **rest)

    monkeypatch.setattr(fsspec.filesystem("memory").__class__, "get_file", records)
    for output in ("memory://bucket/1", "memory://bucket/2"):
        run_remote(upscaler, ["memory://bucket/in/a.mp4"], output, video=QUICK)
    folders = {path.relative_to(tmp_path / "temporary").parts[0] for path in seen}
    assert len(folders) == 2
    assert all(name.startswith("gankit-clip-") for name in folders)
    assert [*(tmp_path / "temporary").iterdir()] == []


@pytest.mark.parametrize(
    ("inputs", "output", "message"),
    [
        (["memory://bucket/in/a.mp4"], "memory://bucket/in", "memory://bucket/in/a.mp4: the result of .* replace it"),
        (["memory://bucket/in/c.png"], "memory://bucket/in", "memory://bucket/in/c.png: the result of .* replace it"),
        (["memory://bucket/in/a.mp4"], "memory://bucket/in/a.mp4", "the result of .* would replace it"),
        (["memory://bucket/in/a.mp4"], "memory://up.mp4", "memory://up.mp4: names no file in a bucket"),
        (["memory://bucket/in/a.mp4"], "memory://bucket/up.wmv", "memory://bucket/up.wmv: clips are written as"),
        (["memory://bucket/in/a.mp4", "memory://bucket/in"], "memory://bucket/up.mp4", "but there are 2 inputs"),
    ],
)
def test_wrong_use(upscaler, memory, mixed, inputs, output, message):
    before = objects(memory, "/bucket/in")
    with pytest.raises(UsageError, match=message):
        run_remote(upscaler, inputs, output, video=QUICK, overwrite=True)
    assert objects(memory, "/bucket/in") == before


def test_the_command(upscaler, memory, mixed, capsys):
    given = ["upscale", "memory://bucket/in/a.mp4", "-o", "memory://bucket/out", "--preset", "ultrafast"]
    assert cli.main([*given, "--dry-run"]) == 0
    assert capsys.readouterr().out == "memory://bucket/in/a.mp4 -> memory://bucket/out/a.mp4\n"
    assert cli.main([*given, "-q"]) == 0
    assert set(objects(memory)) == {"a.mp4"}
