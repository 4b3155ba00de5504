"""What a second run does again, and what it leaves: through ``Upscaler.run``, with an engine that repeats pixels."""

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from pipeline_fakes import Repeat, install_repeat, selection

import gankit
from gankit.backends.cpu.threads import default_threads
from gankit.pipeline import journal, resume
from gankit.pipeline.journal import NAME


@pytest.fixture(autouse=True)
def engine(monkeypatch):
    install_repeat(monkeypatch)


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "in"
    root.mkdir()
    for index, name in enumerate(("a.png", "b.jpg", "c.bmp")):
        Image.fromarray(np.random.default_rng(index).integers(0, 256, (8, 9, 3), np.uint8)).save(root / name)
    return root


def run(folder, out, model="srgan", engine_options=None, **options):
    """The statuses by name, and the lines that were reported."""
    lines = []
    with gankit.Upscaler(model, notify=lines.append, **(engine_options or {})) as upscaler:
        report = upscaler.run(folder, out, **options)
    return {item.source.name: item.again or item.status for item in report.images}, lines, report


ALL = {"a.png": "skipped", "b.jpg": "skipped", "c.bmp": "skipped"}


def test_an_edited_source_is_done_again(folder, tmp_path):
    run(folder, tmp_path / "out")
    with Image.open(folder / "a.png") as image:
        inverted = ImageOps.invert(image)
    inverted.save(folder / "a.png")
    found, _, report = run(folder, tmp_path / "out")
    assert found == ALL | {"a.png": "source"}
    assert report.totals.again == report.totals.done == 1
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "out" / "a.png"))[::4, ::4], np.asarray(inverted))
    assert run(folder, tmp_path / "out")[0] == ALL


def test_an_edit_of_the_same_size_and_time_right_after_the_run(folder, tmp_path):
    """As on a disk whose times have a resolution of two seconds."""
    run(folder, tmp_path / "out")
    before = (folder / "c.bmp").stat()
    with Image.open(folder / "c.bmp") as image:
        ImageOps.invert(image).save(folder / "c.bmp")
    os.utime(folder / "c.bmp", ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (folder / "c.bmp").stat().st_size == before.st_size
    assert run(folder, tmp_path / "out")[0] == ALL | {"c.bmp": "source"}


def test_unchanged_sources_are_not_read(folder, tmp_path, monkeypatch):
    for path in folder.iterdir():
        os.utime(path, (10**9, 10**9))
    run(folder, tmp_path / "out")
    read = []
    monkeypatch.setattr(resume, "sha256_of", lambda path: read.append(path))
    assert run(folder, tmp_path / "out")[0] == ALL
    assert read == []


def test_a_source_that_was_touched_or_moved_is_read_once(folder, tmp_path, monkeypatch):
    run(folder, tmp_path / "out")
    for path in folder.iterdir():
        os.utime(path, (10**9, 10**9))
    moved = tmp_path / "elsewhere"
    shutil.move(folder, moved)
    assert run(moved, tmp_path / "out")[0] == ALL
    monkeypatch.setattr(resume, "sha256_of", lambda path: pytest.fail("read again"))
    assert run(moved, tmp_path / "out")[0] == ALL


def test_results_that_were_copied_without_their_times(folder, tmp_path, monkeypatch):
    for path in folder.iterdir():
        os.utime(path, (10**9, 10**9))
    run(folder, tmp_path / "out")
    shutil.copytree(tmp_path / "out", tmp_path / "copy", copy_function=shutil.copyfile)
    for path in (tmp_path / "copy").glob("*.*"):
        os.utime(path, (10**9, 10**9))
    assert run(folder, tmp_path / "copy")[0] == ALL
    monkeypatch.setattr(journal, "sha256_of", lambda path: pytest.fail("read again"))
    assert run(folder, tmp_path / "copy")[0] == ALL


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ({}, {"engine_options": {"precision": "fp32"}}, {"a.png", "b.jpg", "c.bmp"}),
        ({}, {"engine_options": {"backend": "eager"}}, {"a.png", "b.jpg", "c.bmp"}),
        ({}, {"quality": 80}, {"b.jpg"}),
        ({}, {"strip_metadata": True}, {"a.png", "b.jpg", "c.bmp"}),
        ({"mark_ai": True}, {}, {"a.png", "b.jpg", "c.bmp"}),
        ({}, {"keep_time": True, "max_pixels": 1000}, set()),
        ({}, {"engine_options": {"threads": 1, "tile": 128}}, set()),
    ],
)
def test_options(folder, tmp_path, first, second, expected):
    run(folder, tmp_path / "out", **first)
    found, _, _ = run(folder, tmp_path / "out", **second)
    assert found == ALL | dict.fromkeys(expected, "option")
    assert run(folder, tmp_path / "out", **second)[0] == ALL


def test_model_options(folder, tmp_path):
    chosen = {"engine_options": {"options": {"bn_eps": 1e-5, "list": (1, 2)}}}
    run(folder, tmp_path / "out")
    assert set(run(folder, tmp_path / "out", **chosen)[0].values()) == {"option"}
    assert run(folder, tmp_path / "out", **chosen)[0] == ALL


def test_another_model(folder, tmp_path):
    weights = tmp_path / "w.safetensors"
    weights.write_bytes(b"one")
    run(folder, tmp_path / "out", weights)
    assert run(folder, tmp_path / "out", weights)[0] == ALL
    weights.write_bytes(b"two")
    assert set(run(folder, tmp_path / "out", weights)[0].values()) == {"model"}
    assert set(run(folder, tmp_path / "out", "srgan")[0].values()) == {"model"}


def test_a_file_of_somebody_else_is_kept_unless_told(folder, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "a.png").write_bytes(b"mine")
    found, lines, report = run(folder, out)
    assert found == {"a.png": "kept", "b.jpg": "done", "c.bmp": "done"}
    assert lines[0] == f"skipping {out / 'a.png'}, which was not made by gankit; --overwrite replaces existing files"
    assert report.totals.kept == 1
    with Image.open(out / "b.jpg") as image:
        ImageOps.invert(image).save(out / "b.jpg", quality=50)
    os.utime(folder / "b.jpg")
    Image.new("RGB", (9, 8)).save(folder / "b.jpg")
    assert run(folder, out)[0]["b.jpg"] == "kept", "the user's own edit of a result"
    assert (out / "a.png").read_bytes() == b"mine"
    assert set(run(folder, out, overwrite=True)[0].values()) == {"done"}
    assert run(folder, out)[0] == ALL


def test_beside_the_sources(folder, tmp_path):
    run([folder / "a.png"], None)
    assert (folder / NAME).exists()
    Image.new("RGB", (9, 8), (1, 2, 3)).save(folder / "a.png")
    assert run([folder / "a.png"], None)[0] == {"a.png": "source"}
    found, _, report = run(folder, None)
    assert set(found.values()) == {"done"}
    assert report.ignored == 0, "the journal is no file of the user's"
    assert (tmp_path / "in_x4" / NAME).exists()


def test_a_failure_leaves_the_earlier_result(folder, tmp_path):
    run(folder, tmp_path / "out")
    before = (tmp_path / "out" / "a.png").read_bytes()
    (folder / "a.png").write_bytes(b"no image")
    for _ in range(2):
        assert run(folder, tmp_path / "out")[0] == ALL | {"a.png": "failed"}
    assert (tmp_path / "out" / "a.png").read_bytes() == before


def test_a_plan_writes_nothing(folder, tmp_path):
    with gankit.Upscaler() as upscaler:
        decisions = upscaler.plan(folder, tmp_path / "out")
        assert [(each.job.target.name, each.action) for each in decisions] == [
            ("a.png", "new"),
            ("b.jpg", "new"),
            ("c.bmp", "new"),
        ]
        assert not (tmp_path / "out").exists()
        upscaler.run(folder, tmp_path / "out")
        before = (tmp_path / "out" / NAME).read_bytes()
        (folder / "a.png").unlink()
        assert [each.action for each in upscaler.plan(folder, tmp_path / "out")] == ["skip", "skip"]
        assert (tmp_path / "out" / NAME).read_bytes() == before


def test_skipping_imports_no_torch(folder, tmp_path):
    run(folder, tmp_path / "out")
    code = (
        "import sys, gankit.pipeline.upscaler as u\n"
        f"report = u.Upscaler('srgan').run({str(folder)!r}, {str(tmp_path / 'out')!r})\n"
        "assert report.totals.skipped == 3\nassert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def entries(folder):
    return [json.loads(line) for line in (folder / NAME).read_text().splitlines()]


def test_what_made_a_result_is_recorded(folder, tmp_path):
    run(folder, tmp_path / "out", engine_options={"threads": 3, "tile": 64})
    assert all(
        entry["made_by"]
        == {
            "gankit": gankit.__version__,
            "backend": "repeat",
            "precision": "fp32",
            "device": "cpu",
            "tile": 64,
            "threads": 3,
        }
        for entry in entries(tmp_path / "out")
    )
    assert len(entries(tmp_path / "out")) == 6
    run(folder, tmp_path / "auto")
    assert entries(tmp_path / "auto")[0]["made_by"]["threads"] == default_threads()


def test_the_engine_of_each_image_is_recorded(folder, tmp_path, monkeypatch):
    """A 16-bit image runs on another engine than the others."""

    def select(loaded, options, **_):
        engine = Repeat(4)
        engine.backend, engine.precision = "eager", "fp32" if options.precision == "fp32" else "bf16"
        return selection(engine)

    monkeypatch.setattr("gankit.backends.choice.select.select", select)
    Image.fromarray(np.full((8, 9), 40000, np.uint16)).save(folder / "deep.png")
    run(folder, tmp_path / "out")
    made = {entry["result"]: entry["made_by"]["precision"] for entry in entries(tmp_path / "out")}
    assert made == {"a.png": "bf16", "b.jpg": "bf16", "c.bmp": "bf16", "deep.png": "fp32"}


@pytest.mark.parametrize(("option", "value"), [("device", "cpu"), ("batch", 2), ("threads", 2), ("max_memory", 10**9)])
def test_how_the_work_is_cut_up_is_not_compared(folder, tmp_path, option, value):
    run(folder, tmp_path / "out")
    assert run(folder, tmp_path / "out", engine_options={option: value})[0] == ALL


def test_results_of_another_version_are_kept_and_counted(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(resume, "__version__", "0.0.1")
    run(folder, tmp_path / "out")
    monkeypatch.undo()
    found, lines, _ = run_as_it_is(folder, tmp_path / "out")
    assert found == ALL
    assert "3 results are of another version of gankit (0.0.1) and are kept; --overwrite makes them again" in lines
    monkeypatch.setattr("gankit.checkpoints.open_model", None)  # nothing is loaded to find that out
    assert run_as_it_is(folder, tmp_path / "out")[0] == ALL


def run_as_it_is(folder, out):
    lines = []
    with gankit.Upscaler("srgan", notify=lines.append) as upscaler:
        report = upscaler.run(folder, out)
    return {item.source.name: item.again or item.status for item in report.images}, lines, report


@pytest.mark.parametrize("whole", [False, True])
def test_other_facts_of_a_module_make_its_results_again(folder, tmp_path, whole):
    module = torch.nn.Upsample(scale_factor=4)

    def again(low, high):
        stated = {"value_range": (low, high), "scale": 4, "tileable": False}
        facts = gankit.Facts(task="upscale", **stated) if whole else None
        return set(run(folder, tmp_path / "out", module, {"facts": facts} if whole else stated)[0].values())

    assert again(0, 1) == {"done"}
    assert again(0, 1) == {"skipped"}
    assert again(-1, 1) == {"option"}
