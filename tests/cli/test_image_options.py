"""The options and the notes of ``gankit upscale`` and ``gankit translate`` that concern files and metadata."""

import json
import logging
import os
import subprocess
import sys
from pathlib import Path

import cli_fakes
import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from gankit import cli, images

FAKE = Path(cli_fakes.__file__)


@pytest.fixture(autouse=True)
def engine(monkeypatch):
    cli_fakes.install(monkeypatch.setattr)


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "in"
    root.mkdir()
    noise = np.random.default_rng(0).integers(0, 256, (8, 9, 3), np.uint8)
    text = PngInfo()
    text.add_text("parameters", "a prompt")
    Image.fromarray(noise).save(root / "a.png", pnginfo=text)
    return root


def run(*arguments):
    return cli.main(["upscale", *map(str, arguments)])


def test_done_again_is_said(folder, tmp_path, capsys):
    for name in "bcd":
        Image.new("RGB", (4, 4)).save(folder / f"{name}.png")
    run(folder, "-o", tmp_path / "out")
    (tmp_path / "out" / "d.png").write_bytes(b"mine")
    Image.new("RGB", (5, 4)).save(folder / "a.png")
    capsys.readouterr()
    assert run(folder, "-o", tmp_path / "out") == 0
    printed = capsys.readouterr()
    assert "1 done, 2 skipped (results exist), 1 skipped (not made by gankit)\n" in printed.out
    assert "1 done again: the source changed\n" in printed.out
    assert printed.err.count("not made by gankit; --overwrite replaces existing files") == 1
    Image.new("RGB", (6, 4)).save(folder / "a.png")
    assert run(folder, "-o", tmp_path / "out", "--precision", "fp32") == 0
    assert "3 done again: an option changed\n" in capsys.readouterr().out
    report = tmp_path / "r.json"
    Image.new("RGB", (7, 4)).save(folder / "a.png")
    assert run(folder, "-o", tmp_path / "out", "--precision", "fp32", "--report", report) == 0
    content = json.loads(report.read_text())
    assert content["totals"]["again"] == content["totals"]["kept"] == 1
    assert [item["again"] for item in content["images"]] == ["source", None, None, None]
    assert (tmp_path / "out" / "d.png").read_bytes() == b"mine"


def test_notes_are_printed_and_in_the_report(folder, tmp_path, capsys):
    frames = [Image.new("RGB", (8, 8), (index, 0, 0)) for index in range(3)]
    frames[0].save(folder / "b.webp", save_all=True, append_images=frames[1:], lossless=True)
    report = tmp_path / "r.json"
    assert run(folder, "-o", tmp_path / "out", "--format", "jpg", "--report", report) == 0
    lines = sorted(capsys.readouterr().err.splitlines())
    assert len(lines) == 2
    assert lines[0].startswith(f"{folder / 'a.png'}: JPEG does not hold PNG text (parameters)")
    assert lines[1].startswith(f"{folder / 'b.webp'}: ")
    assert "first of 3 frames" in lines[1]
    notes = [item["notes"] for item in json.loads(report.read_text())["images"]]
    assert [f"{folder / name}: {note}" for name, (note,) in zip(("a.png", "b.webp"), notes, strict=True)] == lines
    assert run(folder, "-o", tmp_path / "quiet", "--format", "jpg", "--quiet") == 0
    assert capsys.readouterr() == ("", "")


def test_a_result_too_large_for_its_format_fails_before_the_engine_runs(folder, tmp_path, capsys, monkeypatch):
    Image.new("RGB", (4200, 2)).save(folder / "wide.webp", lossless=True)
    seen = []
    run_engine = cli_fakes.Slow.run
    monkeypatch.setattr(cli_fakes.Slow, "run", lambda self, batch: seen.append(batch.shape) or run_engine(self, batch))
    assert run(folder, "-o", tmp_path / "out") == 1
    assert "wide.webp: WebP holds at most 16383 pixels a side, this has 16800×8" in capsys.readouterr().err
    assert len(seen) == 1, "only a.png"


@pytest.mark.parametrize("limit", ["50", "0.00005MP", "0.00005 mp"])
def test_max_pixels(folder, tmp_path, capsys, limit):
    Image.new("RGB", (7, 7)).save(folder / "b.png")
    assert run(folder, "-o", tmp_path / "out", "--max-pixels", limit) == 1
    assert "a.png: 9×8 is more than the limit" in capsys.readouterr().err
    assert (tmp_path / "out" / "b.png").exists()


@pytest.mark.parametrize("limit", ["0", "-1", "many", "MP", "1e9", "9" * 40])
def test_wrong_max_pixels(folder, tmp_path, capsys, limit):
    assert run(folder, "-o", tmp_path / "out", "--max-pixels", limit) == 2
    assert "is not a number of pixels such as 250MP" in capsys.readouterr().err


def test_a_decode_that_exceeds_the_memory_fails_alone(folder, tmp_path, capsys, monkeypatch):
    Image.new("RGB", (500, 500)).save(folder / "b.webp")
    monkeypatch.setattr("gankit.pipeline.image_files.available_memory", lambda limit: 100_000)
    assert run(folder, "-o", tmp_path / "out") == 1
    said = capsys.readouterr().err
    assert "b.webp: decoding 500×500 pixels takes about" in said
    assert "saved as TIFF, PNG or JPEG it could run by strips" in said
    assert (tmp_path / "out" / "a.png").exists()


def test_metadata_is_kept_stripped_and_marked(folder, tmp_path):
    for name, options in (("kept", []), ("stripped", ["--strip-metadata"]), ("marked", ["--mark-ai"])):
        assert run(folder, "-o", tmp_path / name, *options) == 0
    kept, stripped, marked = (images.decode(tmp_path / name / "a.png") for name in ("kept", "stripped", "marked"))
    assert b"a prompt" in b"".join(body for _, body in kept.png_text)
    assert kept.xmp is None
    assert stripped.png_text == ()
    assert b"compositeWithTrainedAlgorithmicMedia" in marked.xmp
    assert marked.png_text == kept.png_text
    assert run(folder, "-o", tmp_path / "both", "--strip-metadata", "--mark-ai") == 0
    both = images.decode(tmp_path / "both" / "a.png")
    assert both.png_text == ()
    assert both.xmp == marked.xmp


def test_the_time_of_the_source(folder, tmp_path, capsys):
    os.utime(folder / "a.png", (10**9, 10**9))
    assert run(folder, "-o", tmp_path / "out", "--keep-time") == 0
    assert (tmp_path / "out" / "a.png").stat().st_mtime == 10**9
    assert run(folder, "-o", tmp_path / "out", "--keep-time") == 0
    assert "0 done, 1 skipped (results exist)" in capsys.readouterr().out
    assert run(folder, "-o", tmp_path / "other") == 0
    assert (tmp_path / "other" / "a.png").stat().st_mtime != 10**9


def test_a_dry_run_lists_and_writes_nothing(folder, tmp_path, capsys):
    (folder / "b\x1b[31m.png").write_bytes(b"x")
    (folder / "c.psd").write_bytes(b"x")
    out = tmp_path / "out"
    assert run(folder, "-o", out, "--dry-run") == 0
    printed = capsys.readouterr()
    assert printed.out.splitlines() == [
        f"{folder}/a.png -> {out}/a.png",
        f"{folder}/b\\x1b[31m.png -> {out}/b\\x1b[31m.png",
    ]
    assert "c.psd is a Photoshop image" in printed.err
    assert not out.exists()
    run(folder, "-o", out)
    (out / "b\x1b[31m.png").write_bytes(b"mine")
    capsys.readouterr()
    run(folder, "-o", out, "--dry-run")
    assert [line.split(" (")[1] for line in capsys.readouterr().out.splitlines()] == [
        "skipped: up to date)",
        "skipped: not made by gankit)",
    ]
    run(folder, "-o", out, "--dry-run", "--precision", "fp32")
    assert "(again: an option changed)" in capsys.readouterr().out
    run(folder, "-o", out, "--dry-run", "--overwrite")
    assert capsys.readouterr().out.count("(overwritten)") == 2
    assert run(folder, "--dry-run") == 0
    assert f"{folder}/a.png -> {tmp_path}/in_x4/a.png" in capsys.readouterr().out
    assert not (tmp_path / "in_x4").exists()
    assert run(folder, "--dry-run", "--report", tmp_path / "r.json") == 2


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="no limits of file sizes")
def test_a_file_too_large_for_its_disk_fails_alone(folder, tmp_path):
    """EFBIG: a limit of the system, or that of FAT for 4 GB."""
    Image.new("RGB", (60, 60)).save(folder / "b.bmp")  # its result has 173 kB
    limited = f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))\n{FAKE.read_text()}"
    command = [sys.executable, "-c", limited, "0", "upscale", folder, "-o", tmp_path / "out"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr
    assert done.stderr.count("\n") == 1
    assert f"{tmp_path / 'out' / 'b.bmp'}: cannot be written: File too large\n" in done.stderr
    assert (tmp_path / "out" / "a.png").exists()
    assert not list((tmp_path / "out").glob("*.part"))


@pytest.mark.slow
@pytest.mark.parametrize(
    "environment",
    [{"PYTHONIOENCODING": "ascii"}, {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0"}, {"PYTHONIOENCODING": "latin-1"}],
)
def test_terminals_without_unicode(folder, tmp_path, environment):
    (folder / "a.png").rename(folder / "é漢\x1b[31m.png")
    (folder / "漢.png").write_bytes(b"")
    environment = {"PYTHONUTF8": "0"} | environment
    for more in ([], ["--dry-run"]):
        command = [sys.executable, FAKE, "0", "upscale", folder, "-o", tmp_path / "out", *more]
        done = subprocess.run(command, capture_output=True, env=os.environ | environment, check=False)
        assert b"Traceback" not in done.stderr
        assert b"\x1b" not in done.stdout + done.stderr
        assert done.returncode == (0 if more else 1)
    assert (tmp_path / "out" / "é漢\x1b[31m.png").exists()


@pytest.mark.parametrize("command", ["upscale", "translate", "generate"])
def test_formats_in_the_help_are_those_of_the_registry(command, capsys):
    cli.main([command, "--help"])
    text = " ".join(capsys.readouterr().out.split())
    *others, last = [*images.FORMATS, *([] if command == "generate" else ["same"])]
    assert f"{', '.join(others)} or {last}." in text


def test_tifffile_is_heard_by_nobody(folder, tmp_path, monkeypatch, capsys):
    decode = images.decode

    def warn(path, **options):
        logging.getLogger("tifffile").error("odd tag")
        return decode(path, **options)

    monkeypatch.setattr(images, "decode", warn)
    assert run(folder, "-o", tmp_path / "out") == 0
    assert capsys.readouterr().err == ""
