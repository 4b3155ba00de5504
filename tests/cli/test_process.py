"""Signals and the talk of libraries."""

import io
import logging
import signal
import subprocess
import sys
import threading
import warnings
from pathlib import Path

import pytest

from gankit.cli.process import any_terminal, ended_as_by_ctrl_c, one_line, quiet_libraries

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals")


@pytest.fixture
def handlers():
    """Tests may set any; what was there comes back."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = [signal.getsignal(number) for number in numbers]
    yield
    for number, handler in zip(numbers, before, strict=True):
        signal.signal(number, handler)


@pytest.mark.parametrize("number", [signal.SIGTERM, getattr(signal, "SIGHUP", None)])
@pytest.mark.parametrize("ctrl_c", [signal.default_int_handler, signal.SIG_IGN])
def test_a_signal_is_ctrl_c(handlers, number, ctrl_c):
    """Also where Ctrl-C itself is ignored, as in a shell's background job."""
    signal.signal(signal.SIGINT, ctrl_c)
    signal.signal(number, signal.SIG_DFL)
    with pytest.raises(KeyboardInterrupt), ended_as_by_ctrl_c() as received:
        signal.raise_signal(number)
    assert received == [number]
    assert signal.getsignal(number) is signal.SIG_DFL


def test_a_command_that_stops_by_itself_at_ctrl_c_does_so(handlers):
    """As training does, which writes a checkpoint first."""
    asked = []
    signal.signal(signal.SIGINT, lambda number, frame: asked.append(number))
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    with ended_as_by_ctrl_c() as received:
        signal.raise_signal(signal.SIGTERM)
    assert asked == [signal.SIGINT]
    assert received == [signal.SIGTERM]


def test_ignored_signals_stay_ignored(handlers):
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # nohup
    with ended_as_by_ctrl_c() as received:
        signal.raise_signal(signal.SIGHUP)
    assert received == []


def test_other_threads_leave_the_signals_alone():
    def body():
        with ended_as_by_ctrl_c():
            done.append(True)

    done = []
    thread = threading.Thread(target=body)
    thread.start()
    thread.join()
    assert done == [True]


def test_libraries_are_heard_again_afterwards():
    logger = logging.getLogger("tifffile")
    before, filters = (logger.propagate, list(logger.handlers)), list(warnings.filters)
    with quiet_libraries():
        assert not logger.propagate
        assert warnings.filters != filters
    assert (logger.propagate, logger.handlers) == before
    assert warnings.filters == filters


def test_one_line():
    assert one_line("a\nb\udce9 ä.png") == "a b\\udce9 ä.png"


def test_one_line_escapes_what_a_terminal_would_obey():
    assert one_line("a\x1b[31m\x07\x7f\x9b\u202egnp.png") == r"a\x1b[31m\x07\x7f\x9b\u202egnp.png"
    assert one_line("é漢字 👩\u200d🔬.png") == "é漢字 👩\u200d🔬.png"


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp437"])
def test_any_terminal_takes_any_character(monkeypatch, encoding):
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    monkeypatch.setattr(sys, "stdout", stream)
    with any_terminal():
        print("srgan ×4 → 漢…")
    stream.flush()
    assert stream.errors == "strict"
    text = stream.buffer.getvalue().decode(encoding)
    assert text.replace("×", "x") == "srgan x4 -> \\u6f22...\n"


ENDS = """
import atexit, os, sys, threading, time
from concurrent.futures import ThreadPoolExecutor
from gankit.cli.process import leave

class Kept:
    def __del__(self):
        os.write(1, b"taken apart")

kept = Kept()
atexit.register(print, "at exit")
threading.Thread(target=lambda: (time.sleep(0.2), print("thread"))).start()
ThreadPoolExecutor(1).submit(lambda: (time.sleep(0.4), print("pool")))
leave(3)
"""


def test_the_end_waits_for_threads_and_takes_nothing_apart():
    done = subprocess.run([sys.executable, "-c", ENDS], capture_output=True, text=True)
    assert (done.returncode, done.stdout.split("\n"), done.stderr) == (3, ["thread", "pool", "at exit", ""], "")


def test_the_end_inside_another_program_is_that_of_python(tmp_path):
    """A profiler that runs the command prints what it found afterwards."""
    command = [sys.executable, "-m", "cProfile", "-m", "gankit", "--version"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "cumtime" in done.stdout
    coverage = [sys.executable, "-m", "trace", "--count", "-C", str(tmp_path), "--module", "gankit", "--version"]
    assert subprocess.run(coverage, capture_output=True).returncode == 0
    assert list(tmp_path.glob("*.cover"))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no full device")
def test_what_cannot_be_printed_at_the_end_is_reported(monkeypatch):
    monkeypatch.delenv("PYTHONUNBUFFERED", raising=False)
    end = "from gankit.cli.process import leave\nprint('text')\nleave(0)"
    for program in ("print('text')", end):
        with Path("/dev/full").open("w") as full:
            done = subprocess.run([sys.executable, "-c", program], stdout=full, stderr=subprocess.PIPE, text=True)
        assert (done.returncode, "No space left" in done.stderr) == (120, True)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_output_that_cannot_be_written_is_one_line():
    with Path("/dev/full").open("w") as full:
        line = [sys.executable, "-u", "-m", "gankit", "--help"]
        done = subprocess.run(line, stdout=full, stderr=subprocess.PIPE, text=True, timeout=60)
    assert done.returncode == 2
    assert done.stderr == "error: the output of the command cannot be written: No space left on device\n"
