"""``gankit upscale``: what it does, prints and returns, and every bad input of its own."""

import errno
import importlib
import json
import os
import signal
import subprocess
import sys
import time
import zlib
from pathlib import Path

import cli_fakes
import numpy as np
import pytest
import tifffile
from PIL import Image

from gankit import cli, images
from tests.opening import opened

FAKE = Path(cli_fakes.__file__)


@pytest.fixture
def engine(monkeypatch):
    """A quick engine in place of the real choice."""
    cli_fakes.install(monkeypatch.setattr)


@pytest.fixture
def folder(tmp_path):
    """Three good images."""
    root = tmp_path / "in"
    (root / "sub").mkdir(parents=True)
    for name in ("a.png", "b.jpg", "sub/c.webp"):
        Image.fromarray(noise(16, 20, 3)).save(root / name)
    return root


def noise(*shape):
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def run(*arguments):
    return cli.main(["upscale", *map(str, arguments)])


def files(folder):
    """Every file but the journal."""
    found = (path for path in folder.rglob("*") if path.is_file() and path.name != ".gankit.jsonl")
    return sorted(str(path.relative_to(folder)) for path in found)


def one_line(err):
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    return err


def test_a_folder(engine, folder, tmp_path, capsys):
    out, report = tmp_path / "out", tmp_path / "report.json"
    assert run(folder, "--output", out, "--suffix", "_x4", "--report", report) == 0
    assert files(out) == ["a_x4.png", "b_x4.jpg", "sub/c_x4.webp"]
    assert all(opened(out / name).size == (80, 64) for name in files(out))
    printed = capsys.readouterr()
    assert printed.err == ""  # no bar where there is no terminal
    for words in ("srgan ×4 on repeat fp32 (cpu)", "tile auto", "70.0 dB", "3 done", "MP/s", "decode", "encode"):
        assert words in printed.out
    assert json.loads(report.read_text())["totals"]["done"] == 3


def test_again_skips_and_overwrite_does_again(engine, folder, tmp_path, capsys):
    assert run(folder, "-o", tmp_path / "out") == 0
    capsys.readouterr()
    assert run(folder, "-o", tmp_path / "out") == 0
    assert "0 done, 3 skipped" in capsys.readouterr().out
    assert run(folder, "-o", tmp_path / "out", "--overwrite") == 0
    assert "3 done" in capsys.readouterr().out


def test_again_beside_the_sources(engine, folder, capsys):
    """The shell names the results of the first run too."""
    (folder / "sub" / "c.webp").rename(folder / "c.webp")

    def again(*options):
        named = sorted(path for path in folder.iterdir() if path.is_file())
        return run(*named, "-o", folder, "--suffix", "_x4", *options)

    assert again() == 0
    made = {name: (folder / name).read_bytes() for name in files(folder)}
    assert len(made) == 6
    capsys.readouterr()
    assert again() == 0
    printed = capsys.readouterr()
    assert printed.out == "0 done, 3 skipped (results exist)\n"
    assert printed.err == f"skipping {folder}/a_x4.png and 2 more, which are results of other inputs\n"
    assert again("--quiet") == 0
    assert capsys.readouterr() == ("", "")
    assert again("--overwrite") == 2
    assert "a_x4.png: the result of" in one_line(capsys.readouterr().err)
    assert {name: (folder / name).read_bytes() for name in files(folder)} == made


def test_what_a_killed_run_left_is_removed(engine, folder, tmp_path):
    part = f".gankit-{'0' * 16}.part"
    for place in (tmp_path / "out", tmp_path / "out" / "sub"):
        place.mkdir()
        (place / part).touch()
        os.utime(place / part, (0, 0))
    assert run(folder / "sub", "-o", tmp_path / "out" / "sub") == 0
    assert files(tmp_path / "out") == [part, "sub/c.webp"]
    assert run(folder, "-o", tmp_path / "out") == 0
    assert files(tmp_path / "out") == ["a.png", "b.jpg", "sub/c.webp"]


def test_format_and_pattern(engine, folder, tmp_path):
    assert run(f"{folder}/**/*.*", "-o", tmp_path / "out", "--format", "png") == 0
    assert files(tmp_path / "out") == ["a.png", "b.png", "sub/c.png"]


def test_quiet_says_nothing_but_errors(engine, folder, tmp_path, capsys):
    (folder / "bad.png").write_bytes(b"")
    assert run(folder, "-o", tmp_path / "out", "--quiet") == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "bad.png" in one_line(printed.err)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [(["--fp16"], "fp16"), (["--bf16"], "bf16"), (["--precision", "fp32"], "fp32"), ([], "auto")],
)
def test_precisions(folder, tmp_path, monkeypatch, arguments, expected):
    asked = []

    class Seen(Exception):
        pass

    def upscaler(*_, **options):
        asked.append(options["engine"].precision)
        raise Seen

    monkeypatch.setattr("gankit.cli.upscale.Upscaler", upscaler)
    with pytest.raises(Seen):
        run(folder, "-o", tmp_path / "out", *arguments)
    assert asked == [expected]


def test_contradicting_precisions(folder, tmp_path, capsys):
    assert run(folder, "-o", tmp_path / "out", "--precision", "fp32", "--fp16") == 2
    assert "contradict" in one_line(capsys.readouterr().err)


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--output", "out"],
        ["a.png"],
        ["a.png", "-o", "out", "--tile", "0"],
        ["a.png", "-o", "out", "--tile", "big"],
        ["a.png", "-o", "out", "--quality", "101"],
        ["a.png", "-o", "out", "--precision", "fp8"],
    ],
)
def test_wrong_use(arguments, capsys):
    assert run(*arguments) == 2
    assert "Traceback" not in capsys.readouterr().err


def chunk(name, body, check):
    """A PNG chunk with this CRC."""
    return len(body).to_bytes(4, "big") + name + body + check.to_bytes(4, "big")


def spoil(folder):
    """Add one image of each broken kind; returns their names."""
    good = folder / "a.png"
    (folder / "truncated.png").write_bytes(good.read_bytes()[:200])
    (folder / "zero.png").write_bytes(b"")
    (folder / "text.png").write_text("I am no image\n" * 20)
    (folder / "short.jpg").write_bytes((folder / "b.jpg").read_bytes()[:150])
    header = bytearray(good.read_bytes())
    header[16:24] = (200_000).to_bytes(4, "big") * 2  # width and height in IHDR
    header[29:33] = zlib.crc32(bytes(header[12:29])).to_bytes(4, "big")
    (folder / "bomb.png").write_bytes(bytes(header))
    tifffile.imwrite(folder / "cut.tif", noise(16, 20, 3))
    (folder / "cut.tif").write_bytes((folder / "cut.tif").read_bytes()[:200])  # among its tags
    return {"truncated.png", "zero.png", "text.png", "short.jpg", "bomb.png", "cut.tif"}


def scratch(folder):
    """Add images whose pixels are good and whose metadata are not; returns their names."""
    exif = Image.Exif()
    exif[270] = "a description"
    Image.fromarray(noise(16, 20, 3)).save(folder / "exif.jpg", exif=exif.tobytes()[:-5])
    whole = (folder / "a.png").read_bytes()
    (folder / "chunk.png").write_bytes(whole[:33] + chunk(b"tEXt", b"a\0b", 7) + whole[33:])
    tifffile.imwrite(folder / "tag.tif", noise(16, 20, 3), software="gankit's own test")
    tags = bytearray((folder / "tag.tif").read_bytes())
    at = tags.index((305).to_bytes(2, "little") + (2).to_bytes(2, "little"))
    tags[at + 8 : at + 12] = (10**8).to_bytes(4, "little")  # where the name of the software is said to be
    (folder / "tag.tif").write_bytes(bytes(tags))
    return ["chunk.png", "exif.jpg", "tag.tif"]


def test_broken_images_are_named_and_the_others_done(engine, folder, tmp_path, capsys):
    bad = spoil(folder)
    assert run(folder, "-o", tmp_path / "out") == 1
    assert files(tmp_path / "out") == ["a.png", "b.jpg", "sub/c.webp"]
    printed = capsys.readouterr()
    lines = printed.err.splitlines()
    assert len(lines) == len(bad)
    assert {Path(line.removeprefix("error: ").split(":")[0]).name for line in lines} == bad
    assert "3 done, 6 failed" in printed.out


@pytest.mark.slow
def test_only_our_own_lines_are_seen(folder, tmp_path):
    """In a process of its own: within pytest, warnings and logs go elsewhere."""
    bad = spoil(folder)
    fine = scratch(folder)
    large = Image.new("1", (10_000, 9_500))  # Pillow warns from 89 million pixels on
    large.save(tmp_path / "large.png")
    (folder / "sized.png").write_bytes((tmp_path / "large.png").read_bytes()[:60])
    command = [sys.executable, FAKE, "0", "upscale", folder, "-o", tmp_path / "out"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr
    assert files(tmp_path / "out") == sorted(["a.png", "b.jpg", "sub/c.webp", *fine])
    lines = done.stderr.splitlines()
    assert {Path(line.removeprefix("error: ").split(":")[0]).name for line in lines} == bad | {"sized.png"}
    assert len(lines) == len(bad) + 1


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with names")
def test_a_pipe_is_no_image(engine, folder, tmp_path, capsys):
    os.mkfifo(folder / "a_pipe.png")
    assert run(folder, "-o", tmp_path / "out") == 1
    assert "a_pipe.png: is not a regular file" in one_line(capsys.readouterr().err)


def test_a_name_too_long_for_its_suffix_fails_alone(engine, folder, tmp_path, capsys):
    (folder / ("x" * 250 + ".png")).write_bytes((folder / "a.png").read_bytes())
    (tmp_path / "out").mkdir()
    assert run(folder, "-o", tmp_path / "out", "--suffix", "_x4") == 1
    assert "xxx.png" in one_line(capsys.readouterr().err)
    assert files(tmp_path / "out") == ["a_x4.png", "b_x4.jpg", "sub/c_x4.webp"]


@pytest.mark.skipif(sys.platform != "linux", reason="other systems take only text as names")
def test_a_name_that_is_no_text(engine, tmp_path, capsys):
    source, report = tmp_path / "in", tmp_path / "r.json"
    source.mkdir()
    for name in (b"caf\xe9.png", b"bad\xe9.png"):
        Path(os.fsdecode(bytes(source) + b"/" + name)).touch()
    Image.fromarray(noise(16, 20, 3)).save(os.fsdecode(bytes(source) + b"/caf\xe9.png"))
    assert run(source, "-o", tmp_path / "out", "--report", report) == 1
    assert "bad\\udce9.png: the file is empty" in one_line(capsys.readouterr().err)
    assert files(tmp_path / "out") == [os.fsdecode(b"caf\xe9.png")]
    content = json.loads(report.read_text())
    assert sorted(os.fsencode(item["source"])[-8:] for item in content["images"]) == [b"bad\xe9.png", b"caf\xe9.png"]


def test_a_folder_that_cannot_be_listed_fails_alone(engine, folder, tmp_path, capsys, monkeypatch):
    scandir = os.scandir

    def refuse(path):
        if Path(path).name == "sub":
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    for status in ("2 done, 1 failed", "0 done, 2 skipped (results exist), 1 failed"):
        assert run(folder, "-o", tmp_path / "out") == 1
        printed = capsys.readouterr()
        assert "sub: cannot be read: Permission denied" in one_line(printed.err)
        assert status in printed.out


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda path: path.mkdir(), "no images found"),
        (lambda path: None, "no such file or folder"),
        (lambda path: path.write_text("x"), "the extension is not that of an image"),
    ],
)
def test_inputs_without_images(engine, tmp_path, capsys, make, words):
    make(tmp_path / "thing")
    assert run(tmp_path / "thing", "-o", tmp_path / "out") == 2
    err = one_line(capsys.readouterr().err)
    assert words in err
    assert "thing" in err
    assert not (tmp_path / "out").exists()


def test_unknown_model(folder, tmp_path, capsys):
    assert run(folder, "-o", tmp_path / "out", "--model", "srgam") == 2
    assert "did you mean 'srgan'" in one_line(capsys.readouterr().err)


def test_missing_weights_file(folder, tmp_path, capsys):
    assert run(folder, "-o", tmp_path / "out", "--model", tmp_path / "none.safetensors") == 2
    assert "none.safetensors" in one_line(capsys.readouterr().err)


def test_broken_weights_file(folder, tmp_path, capsys):
    (tmp_path / "bad.safetensors").write_bytes(b"no weights")
    assert run(folder, "-o", tmp_path / "out", "--model", tmp_path / "bad.safetensors") == 2
    assert "bad.safetensors" in one_line(capsys.readouterr().err)
    assert files(tmp_path / "out") == []


def test_unknown_backend(folder, tmp_path, capsys):
    assert run(folder, "-o", tmp_path / "out", "--backend", "openvin") == 2
    assert "openvino" in one_line(capsys.readouterr().err)


def test_tensorrt_where_it_is_not_installed(folder, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    assert run(folder, "-o", tmp_path / "out", "--backend", "tensorrt") == 2
    err = one_line(capsys.readouterr().err)
    assert "tensorrt" in err
    assert not (tmp_path / "out").exists()


def test_unknown_format(engine, folder, tmp_path, capsys):
    assert run(folder, "-o", tmp_path / "out", "--format", "psd") == 2
    assert "unknown format 'psd'" in one_line(capsys.readouterr().err)


def test_output_is_a_file(engine, folder, tmp_path, capsys):
    (tmp_path / "out").write_text("mine")
    assert run(folder, "-o", tmp_path / "out") == 2
    assert "a file is in its place" in one_line(capsys.readouterr().err)
    assert (tmp_path / "out").read_text() == "mine"


def test_output_without_permission(engine, folder, tmp_path, capsys, monkeypatch):
    def refuse(path, *_, **__):
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(Path, "touch", refuse)  # root may write everywhere, so the system would not refuse
    assert run(folder, "-o", tmp_path / "out") == 2
    assert "Permission denied" in one_line(capsys.readouterr().err)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere")
def test_output_in_a_read_only_folder(engine, folder, tmp_path, capsys):
    (tmp_path / "locked").mkdir(mode=0o500)
    assert run(folder, "-o", tmp_path / "locked" / "out") == 2
    assert "Permission denied" in one_line(capsys.readouterr().err)


@pytest.fixture
def one_encoder(monkeypatch):
    """Images are written in order on any machine: several encoders may have others in hand when the disk is full."""
    hands = {"decoders": 1, "encoders": 1, "max_bytes": 1 << 28}
    monkeypatch.setattr("gankit.pipeline.job_run.thread_counts", lambda limit=None: hands)


def test_a_disk_that_fills_up(engine, one_encoder, folder, tmp_path, capsys, monkeypatch):
    encode = images.encode

    def fill(image, target, **options):
        if target.name == "b.jpg":
            raise OSError(errno.ENOSPC, "No space left on device")
        encode(image, target, **options)

    monkeypatch.setattr(images, "encode", fill)
    assert run(folder, "-o", tmp_path / "out") == 2
    assert "b.jpg: cannot be written: No space left on device" in one_line(capsys.readouterr().err)
    assert files(tmp_path / "out") == ["a.png"]
    assert opened(tmp_path / "out" / "a.png").size == (80, 64)


def test_a_disk_that_is_really_full(engine, one_encoder, tmp_path, capsys):
    out, source = tmp_path / "out", tmp_path / "in"
    out.mkdir()
    source.mkdir()
    for index in range(6):
        Image.fromarray(noise(64, 64, 3)).save(source / f"{index}.bmp")
    mount = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", out], capture_output=True, check=False)
    if mount.returncode:
        pytest.skip("no right to mount a small disk")
    try:
        assert run(source, "-o", out) == 2
        assert "No space left" in one_line(capsys.readouterr().err)
        assert files(out) == ["0.bmp", "1.bmp"]  # 197 kB each
        assert all(opened(out / name).convert("RGB").size == (256, 256) for name in files(out))
    finally:
        subprocess.run(["umount", out], check=True)


def test_report_into_a_missing_folder(engine, folder, tmp_path, capsys):
    assert run(folder, "-o", tmp_path / "out", "--report", tmp_path / "no" / "r.json") == 2
    assert "no such folder" in one_line(capsys.readouterr().err)
    assert not (tmp_path / "out").exists()  # reported before the work, not after it


def test_report_into_the_output_that_is_yet_to_be_made(engine, folder, tmp_path):
    out = tmp_path / "out"
    for place in (out / "r.json", out / "more" / "r.json"):
        assert run(folder, "-o", out, "--report", place) == 0
        assert json.loads(place.read_text())["totals"]["left"] == 0


def test_report_where_none_can_be_is_reported_before_the_work(engine, folder, tmp_path, capsys):
    (tmp_path / "reports").mkdir()
    for place, words in ((tmp_path / "reports", "is a directory"), ("", "empty")):
        assert run(folder, "-o", tmp_path / "out", "--report", place) == 2
        assert words in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_report_in_a_locked_folder_is_reported_before_the_work(engine, folder, tmp_path, capsys, monkeypatch):
    def refuse(path, *_, **__):
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(Path, "touch", refuse)
    assert run(folder, "-o", tmp_path / "out", "--report", tmp_path / "r.json") == 2
    assert "use another --report" in one_line(capsys.readouterr().err)
    assert not (tmp_path / "out").exists()


def test_a_run_that_ends_early_tells_what_was_done(engine, folder, tmp_path, capsys, monkeypatch):
    (folder / "0.png").write_bytes(b"")
    for name in ("d.png", "e.png", "f.png", "g.png", "h.png", "i.png"):
        Image.fromarray(noise(16, 20, 3)).save(folder / name)
    encode, report = images.encode, tmp_path / "r.json"

    def fill(image, target, **options):
        if target.name == "b.jpg":
            raise OSError(errno.ENOSPC, "No space left on device")
        encode(image, target, **options)

    monkeypatch.setattr(images, "encode", fill)
    assert run(folder, "-o", tmp_path / "out", "--report", report) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert "0.png: the file is empty" in lines[0]
    assert "No space left" in lines[1]
    content = json.loads(report.read_text())
    status = {Path(item["source"]).name: item["status"] for item in content["images"]}
    assert len(status) == 10
    assert (status["0.png"], status["b.jpg"]) == ("failed", "left")
    done = {name for name, word in status.items() if word == "done"}
    assert done == set(files(tmp_path / "out"))
    assert content["totals"]["left"] == 9 - len(done)


def test_tile_below_the_halo(engine, folder, tmp_path, capsys):
    """Whatever the size of the images: reported before the first of them, not at the first large one."""
    assert run(folder, "-o", tmp_path / "out", "--tile", "16") == 2
    assert "tile 16 is too small" in one_line(capsys.readouterr().err)
    assert files(tmp_path / "out") == []


@pytest.mark.parametrize("wants", ["tiles", "images"])
def test_tile_and_batch_that_are_not_used_are_said_to_be(engine, folder, tmp_path, capsys, monkeypatch, wants):
    monkeypatch.setattr(cli_fakes.Slow, "wants", wants)
    assert run(folder, "-o", tmp_path / "out", "--tile", "256", "--batch", "2") == 0
    expected = "repeat runs whole images here and ignores --tile and --batch\n" if wants == "images" else ""
    assert capsys.readouterr().err == expected


def test_empty_names(engine, folder, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(folder)
    for arguments in (["", "-o", tmp_path / "out"], ["a.png", "-o", ""]):
        assert run(*arguments) == 2
        assert "empty name" in one_line(capsys.readouterr().err)
    assert files(folder) == ["a.png", "b.jpg", "sub/c.webp"]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="no pseudo-terminal")
def test_a_terminal_sees_a_bar_that_goes_away(folder, tmp_path):
    import pty

    def read(descriptor):
        nonlocal seen
        data = os.read(descriptor, 4096)
        seen += data
        return data

    main, terminal = pty.openpty()
    (folder / "sub" / "b.png").write_bytes(b"")
    command = [sys.executable, FAKE, "0.3", "upscale", folder, "-o", tmp_path / "out"]
    with subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=terminal, env=os.environ | {"TERM": "xterm"}
    ) as run:
        os.close(terminal)
        seen = b""
        try:
            while read(main):
                pass
        except OSError:  # how Linux says that the other side has left
            pass
        assert run.wait(30) == 1
    os.close(main)
    assert b"3/4" in seen
    assert b"MP/s" in seen
    assert b"b.png: the file is empty (0 bytes)\r\n" in seen.split(b"error: ", 1)[1]


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
@pytest.mark.parametrize(
    ("number", "status"),
    [
        pytest.param(signal.SIGINT, 130, marks=pytest.mark.slow),
        (signal.SIGTERM, 143),
        pytest.param(getattr(signal, "SIGHUP", None), 129, marks=pytest.mark.slow),
    ],
)
def test_signals_leave_whole_files_and_a_rerun_finishes(tmp_path, number, status):
    source, out, report = tmp_path / "in", tmp_path / "out", tmp_path / "r.json"
    source.mkdir()
    for index in range(25):
        Image.fromarray(noise(48, 48, 3)).save(source / f"{index:02}.png")
    command = [sys.executable, FAKE, "0.15", "upscale", source, "-o", out, "--report", report]
    slow = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    limit = time.monotonic() + 60
    while len(list(out.glob("*.png"))) < 3 and slow.poll() is None:
        assert time.monotonic() < limit
        time.sleep(0.01)
    slow.send_signal(number)
    _, err = slow.communicate(timeout=30)
    assert slow.returncode == status, err.decode()
    one_line(err.decode().lstrip("\n"))  # click ends the line that has ^C
    done = files(out)
    assert 3 <= len(done) < 25
    assert all(name.endswith(".png") and not name.startswith(".") for name in done)
    totals = json.loads(report.read_text())["totals"]
    assert (totals["done"], totals["left"]) == (len(done), 25 - len(done))
    times = {name: (out / name).stat().st_mtime_ns for name in done}
    again = subprocess.run([sys.executable, FAKE, "0", "upscale", source, "-o", out], capture_output=True, check=True)
    assert f"{25 - len(done)} done, {len(done)} skipped" in again.stdout.decode()
    assert {name: (out / name).stat().st_mtime_ns for name in done} == times
    for name in files(out):
        with Image.open(out / name) as image:
            image.load()
            assert image.size == (192, 192)


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        ([], "edsr-photo"),
        (["--scale", "2"], "edsr-photo-x2"),
        (["--scale", "1.5"], "edsr-photo-x2"),
        (["--scale", "3"], "edsr-photo"),
        (["--scale", "2", "--model", "srgan"], "srgan"),
        (["--scale", "2", "--strength", "0.5"], "edsr-photo"),
    ],
)
def test_the_weights_that_run_where_none_are_named(folder, monkeypatch, options, wanted):
    module, made = importlib.import_module("gankit.cli.upscale"), []
    monkeypatch.setattr(module, "run", lambda make, **_: made.append(make.args[0]) or 0)
    assert run(folder, *options) == 0
    assert made == [wanted]
