"""A process that was forked after gankit had been used: one clear error, and never a hang."""

import multiprocessing
import os
import subprocess
import sys
import threading

import pytest

import gankit

SCRIPT = """
import multiprocessing, os, sys
import numpy as np
import gankit
from gankit import models

START, USED = sys.argv[1:]
IMAGE = np.full((64, 64, 3), 90, np.uint8)
OPTIONS = dict(scale=4, value_range=(0, 1), backend="eager", device="cpu", precision="fp32", threads=2)
NETWORK = models.build("srgan", {"channels": 8, "blocks": 1}).eval()
upscaler = gankit.Upscaler(NETWORK, **OPTIONS)

def again(queue):
    try:
        with gankit.Upscaler(NETWORK, **OPTIONS) as fresh:
            queue.put(str(fresh(IMAGE).shape))
    except gankit.GankitError as error:
        queue.put(f"{type(error).__name__}: {error}")

def same(queue):
    try:
        queue.put(str(upscaler(IMAGE).shape))
    except gankit.GankitError as error:
        queue.put(f"{type(error).__name__}: {error}")

def main():
    if USED == "used":
        upscaler(IMAGE)
    context = multiprocessing.get_context(START)
    for work in (same, again):
        queue = context.Queue()
        child = context.Process(target=work, args=(queue,))
        child.start()
        print(queue.get(timeout=100), flush=True)
        child.join(20)
        print(child.exitcode, flush=True)
        child.kill()
    if USED == "used":
        print(upscaler(IMAGE).shape)  # the parent goes on

if __name__ == "__main__":
    main()
"""

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")


def lines(tmp_path, start, used):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    environment = os.environ | {"OMP_NUM_THREADS": "2"}  # OpenMP hangs in a fork only if it had started threads
    command = [sys.executable, str(script), start, used]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.mark.slow
def test_fork_after_use_is_one_error(tmp_path):
    first, code, second, other_code, parent = lines(tmp_path, "fork", "used")
    assert first.startswith("ForkedError: gankit was used before this process was forked")
    assert "spawn" in first
    assert second == first
    assert (code, other_code, parent) == ("0", "0", "(256, 256, 3)")


@pytest.mark.slow
def test_fork_before_use_works(tmp_path):
    assert lines(tmp_path, "fork", "unused") == ["(256, 256, 3)", "0"] * 2


@pytest.mark.slow
def test_spawn_after_use_works(tmp_path):
    assert lines(tmp_path, "spawn", "used") == [*["(256, 256, 3)", "0"] * 2, "(256, 256, 3)"]


def test_a_lock_that_a_thread_of_the_parent_holds_does_not_hang_the_child(tmp_path):
    """Every way in, while another thread is inside of the pipeline."""
    sampler = gankit.Sampler("gan")
    sampler(1)
    upscaler = gankit.Upscaler("srgan", backend="eager", device="cpu")
    (tmp_path / "a.png").write_bytes(b"no image")
    held, release = threading.Event(), threading.Event()

    def hold():
        with upscaler._lock:
            held.set()
            release.wait(60)

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait(60)
    calls = {
        "call": lambda: upscaler([]),
        "facts": lambda: upscaler.facts,
        "run": lambda: upscaler.run(tmp_path / "a.png", tmp_path / "out"),
        "sample": lambda: sampler(1),
        "sampler's facts": lambda: gankit.Sampler("gan").facts,
        "export": lambda: gankit.export("srgan", tmp_path / "x.onnx"),
    }

    def work(queue):
        for name, call in calls.items():
            try:
                call()
                queue.put((name, "no error"))
            except gankit.GankitError as error:
                queue.put((name, type(error).__name__))
        upscaler.close()
        sampler.close()
        queue.put(("closed", ""))

    try:
        context = multiprocessing.get_context("fork")
        queue = context.Queue()
        child = context.Process(target=work, args=(queue,), daemon=True)
        child.start()
        found = dict(queue.get(timeout=60) for _ in range(len(calls) + 1))
        child.join(20)
        code = child.exitcode
        child.kill()
    finally:
        release.set()
        thread.join()
    assert found == {**dict.fromkeys(calls, "ForkedError"), "closed": ""}
    assert code == 0
    assert sampler(1).shape[0] == 1
