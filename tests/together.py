"""Two runs at the same time."""

import subprocess
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from threading import Barrier


def twice_at_once(run):
    """The results of two calls that two threads begin together; an error of either is raised.

    Args:
        run: called with what waits for the other one, which it calls when it is ready to begin.
    """
    begin = Barrier(2)
    with ThreadPoolExecutor(2) as pool:
        calls = [pool.submit(run, begin.wait) for _ in range(2)]
        return [call.result() for call in calls]


@contextmanager
def two_processes(line):
    """Two processes of one command that have printed "ready", and wait for a line. They are killed at the end."""
    runs = [subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    try:
        for run in runs:
            assert run.stdout.readline() == "ready\n"
        yield runs
    finally:
        for run in runs:
            with suppress(OSError):
                run.kill()
            run.wait()
            run.stdin.close()
            run.stdout.close()


def begin(run, line=""):
    """Let one of :func:`two_processes` go on. It reads a line."""
    run.stdin.write(f"{line}\n")
    run.stdin.flush()
