"""``--log-format json``: every line of stderr is an object, whoever wrote it."""

import json
import os
import subprocess
import sys
import threading
from datetime import UTC, datetime

import cli_fakes
import pytest
from PIL import Image

from gankit import cli
from gankit.cli.log import JsonLog, json_lines, wants_json
from gankit.cli.progress_json import JsonLines
from gankit.pipeline.items import Progress
from tests.latent_networks import weights


def events(text):
    """Parse the lines, and check what all of them have."""
    found = [json.loads(line) for line in text.splitlines()]
    for event in found:
        assert {"time", "level", "event", "message", "file"} <= set(event)
        time = datetime.fromisoformat(event["time"])
        assert time.tzinfo == UTC
        assert event["level"] in ("info", "error")
        assert event["message"]
    return found


def of(kind, found):
    return [event for event in found if event["event"] == kind]


def command(*arguments, program=("-m", "gankit"), **options):
    return subprocess.run(
        [sys.executable, *program, *map(str, arguments)], capture_output=True, text=True, timeout=120, **options
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param(["upscale", "--log-format", "json", "missing"], "missing", marks=pytest.mark.slow),
        (["upscale", "--log-format=json", "--scale", "0", "missing"], "--scale"),
        (["translate", "--log-format", "json", "missing"], "--model"),
        (["generate", "--nonsense", "--log-format", "json"], "--nonsense"),
    ],
)
def test_usage_errors(arguments, message):
    done = command(*arguments)
    assert done.returncode == 2
    (event,) = events(done.stderr)
    assert (event["event"], event["level"]) == ("error", "error")
    assert message in event["message"]


def test_text_is_the_default(tmp_path, capsys):
    for options in ([], ["--log-format", "text"], ["--log-format", "json", "--log-format", "text"]):
        assert cli.main(["upscale", *options, "--scale", "0", str(tmp_path)]) == 2
        assert "Error: Invalid value for '--scale'" in capsys.readouterr().err
    assert cli.main(["upscale", "--log-format", "xml", str(tmp_path)]) == 2
    assert "Error: Invalid value for '--log-format'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        ([], False),
        (["upscale", "a.png", "--log-format", "json"], True),
        (["upscale", "--", "--log-format", "json"], False),
        (["upscale", "--log-format"], False),
        (["models", "--log-format", "json"], False),
    ],
)
def test_which_arguments_ask_for_json(arguments, wanted):
    assert wants_json(arguments) is wanted


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    for name in ("a.png", "b.png"):
        Image.new("RGB", (20, 16), "red").save(folder / name)
    (folder / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    return folder


def check_events_of_a_run(found, photos, output):
    images = {event["source"]: event for event in of("image", found)}
    good, broken = images[str(photos / "a.png")], images[str(photos / "broken.png")]
    assert len(images) == 3
    assert (good["status"], good["level"], good["error"]) == ("done", "info", None)
    assert good["target"] == str(output / "a.png")
    assert good["file"] == good["source"]
    assert good["seconds"] > 0
    assert (broken["status"], broken["level"]) == ("failed", "error")
    assert broken["message"] == broken["error"]
    assert str(photos / "broken.png") in broken["error"]
    (done,) = of("done", found)
    assert (done["totals"]["done"], done["totals"]["failed"]) == (2, 1)
    assert found[-1] == done
    progress = of("progress", found)
    assert progress
    assert all(0 <= event["part"] <= 1 and event["total"] == 3 for event in progress)


def test_a_run_with_a_fake_engine(photos, tmp_path, monkeypatch, capfd):
    cli_fakes.install(monkeypatch.setattr)
    output = tmp_path / "out"
    assert cli.main(["upscale", str(photos), "-o", str(output), "--log-format", "json"]) == 1
    printed = capfd.readouterr()
    found = events(printed.err)
    check_events_of_a_run(found, photos, output)
    assert not of("stderr", found)
    assert "2 done, 1 failed" in printed.out

    assert cli.main(["upscale", str(photos), "-o", str(output), "-q", "--log-format", "json"]) == 1
    (event,) = events(capfd.readouterr().err)
    assert (event["event"], event["status"]) == ("image", "failed")

    assert cli.main(["upscale", str(photos), "-o", str(output)]) == 1
    assert f"error: {photos / 'broken.png'}: " in capfd.readouterr().err


@pytest.mark.slow
def test_the_real_command(photos, tmp_path):
    output = tmp_path / "out"
    options = ("-o", output, "--backend", "eager", "--precision", "fp32", "--log-format", "json")
    done = command("upscale", photos, *options)
    assert done.returncode == 1, done.stderr
    check_events_of_a_run(events(done.stderr), photos, output)


def test_generate(tmp_path, capfd):
    output = tmp_path / "out"
    model = weights(tmp_path, "gan")
    options = ["-o", str(output), "-n", "3", "--backend", "eager", "--precision", "fp32", "--log-format", "json"]
    assert cli.main(["generate", "-m", str(model), *options]) == 0
    found = events(capfd.readouterr().err)
    assert {event["target"] for event in of("image", found)} == {str(output / f"00000{n}.png") for n in range(3)}
    assert of("done", found)[0]["totals"]["done"] == 3


PRINTS = """
import ctypes, os, subprocess, sys, threading, warnings
import click
from gankit import cli

@click.command()
@click.option("--log-format")
@click.option("--crash", is_flag=True)
def upscale(log_format, crash):
    print("from Python", file=sys.stderr)
    os.write(2, b"from a descriptor, \\xff\\n\\nno line end")
    libc = ctypes.CDLL(None)
    libc.perror(b"\\nfrom C")
    subprocess.run(["sh", "-c", "echo from a child >&2; sleep 30 2>&2 >/dev/null &"])
    thread = threading.Thread(target=lambda: 1 / 0)
    thread.start()
    thread.join()
    os.write(2, b"x" * 200_000)
    if crash:
        raise RuntimeError("a bug")

cli.gankit.get_command = lambda context, name: upscale
sys.exit(cli.main())
"""


@pytest.mark.parametrize("crash", [False, True])
def test_every_writer_of_stderr(crash):
    arguments = ["upscale", "--log-format", "json", *(["--crash"] if crash else [])]
    done = command(*arguments, program=("-c", PRINTS))
    found = events(done.stderr)
    lines = [event["message"] for event in of("stderr", found)]
    assert {"from Python", r"from a descriptor, \xff", "no line end", "from a child"} <= set(lines)
    assert any(line.startswith("from C: ") for line in lines)
    assert any("ZeroDivisionError" in line for line in lines)
    assert sum(line.count("x") for line in lines if set(line) == {"x"}) == 200_000
    assert done.returncode == int(crash)
    if crash:
        (bug,) = of("error", found)
        assert bug["message"] == "RuntimeError: a bug"
        assert bug["traceback"].startswith("Traceback")


def test_the_descriptor_is_restored(capfd):
    before, threads = os.fstat(2), set(threading.enumerate())
    with json_lines(["upscale", "--log-format", "json"]) as log:
        assert os.fstat(2) != before
        os.write(2, b"inside\n")
        log.write("notice", "one\nline")
    os.write(2, b"outside\n")
    assert os.fstat(2).st_ino == before.st_ino
    assert set(threading.enumerate()) == threads
    *lines, last = capfd.readouterr().err.splitlines()
    assert last == "outside"
    assert sorted(event["message"] for event in events("\n".join(lines))) == ["inside", "one\nline"]


def test_a_reader_that_leaves_does_not_end_the_run():
    read, write = os.pipe()
    os.close(read)
    log = JsonLog(write)
    log.write("notice", "to nobody")
    log.write("notice", "to nobody")
    os.close(write)
    JsonLog(None).write("notice", "to nobody")


def test_progress_comes_every_two_seconds(tmp_path):
    read, write = os.pipe()
    now = 5.0
    lines = JsonLines(JsonLog(write), clock=lambda: now)
    for now in (5.0, 5.1, 6.9, 7.0, 8.9, 9.1):
        lines.update(Progress(10, done=5, seconds=now, done_mp=2.0, total_mp=8.0, current=tmp_path))
    os.close(write)
    found = events(os.read(read, 1 << 16).decode("ascii"))
    os.close(read)
    assert [event["seconds"] for event in found] == [5.0, 7.0, 9.1]
    assert found[0]["part"] == 0.25
    assert found[0]["seconds_left"] == 15.0
    assert found[0]["file"] == str(tmp_path)
