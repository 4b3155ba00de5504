"""Two versions of gankit on the same work: ``python -m bench.versions main --model edsr --size 768x512``.

Each version runs in a process of its own, in rounds (A B A B …), so that both meet the same machine. On a machine that
others use, compare the processor's time of one thread (``--threads 1``); on a quiet one, the wall time.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tarfile
import tempfile
from io import BytesIO
from pathlib import Path
from typing import Any, Self

import numpy as np

from bench.common import ROOT, spread

_PARTS = ("gankit", "kernels", "export")


class Version:
    """One version, ready to run.

    Args:
        tree: folder that contains its source.
        work: what it runs, see :mod:`bench.engine_worker`.
    """

    def __init__(self, tree: Path, work: dict[str, Any]) -> None:
        path = os.pathsep.join(str(item) for item in (tree, tree / "kernels", tree / "export"))
        environment = os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": str(work["threads"])}
        command = [sys.executable, str(ROOT / "bench" / "engine_worker.py")]
        self._process = subprocess.Popen(
            command, cwd=tree, env=environment, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        self.cpu: list[float] = []
        self.wall: list[float] = []
        self.sha256 = ""
        self._send(json.dumps(work))
        self.run()  # loads and compiles
        self.cpu.clear()
        self.wall.clear()

    def run(self) -> None:
        """Run once, and note the seconds."""
        self._send("run")
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"a version ended with {self._process.wait()}")
        answer = json.loads(line)
        self.cpu.append(answer["cpu"])
        self.wall.append(answer["wall"])
        self.sha256 = answer["sha256"]

    def _send(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()


def checked_out(commit: str, folder: Path) -> Path:
    """Write the source of a commit to a folder, and return the folder."""
    archive = subprocess.run(["git", "archive", commit, *_PARTS], cwd=ROOT, check=True, capture_output=True).stdout
    with tarfile.open(fileobj=BytesIO(archive)) as files:
        files.extractall(folder, filter="data")
    return folder


def compare(before: Path, work: dict[str, Any], rounds: int) -> str:
    """Run both versions in rounds, and return a line for each clock."""
    with Version(before, work) as old, Version(ROOT, work) as new:
        for _ in range(rounds):
            old.run()
            new.run()
        name = f"{work['backend']} {work['model']} {work['width']}×{work['height']} ×{work['batch']}"
        lines = []
        for clock in ("cpu", "wall"):
            was, now = getattr(old, clock), getattr(new, clock)
            ratio = np.median(was) / np.median(now)
            lines.append(
                f"{name}, {work['threads']} threads, n={rounds}, {clock}: {np.median(was):.3f} s (spread "
                f"{spread(was) or 0:.0%}) -> {np.median(now):.3f} s (spread {spread(now) or 0:.0%}), ×{ratio:.2f}"
            )
        same = "the same pixels" if old.sha256 == new.sha256 else "other pixels"
        return "\n".join([*lines, f"  {same}"])


def main() -> None:
    """Parse the command line, compare, and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("before", help="a commit of this repository; the other version is the working tree")
    parser.add_argument("--model", default="edsr")
    parser.add_argument("--options", type=json.loads, default={}, help="of the model, as JSON")
    parser.add_argument("--backend", nargs="+", default=["eager"])
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("--size", nargs="+", default=["384x256"], help="width x height of the input, one or several")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="gankit-versions-") as folder:
        before = checked_out(given.before, Path(folder))
        for backend in given.backend:
            for size in given.size:
                width, height = map(int, size.split("x"))
                kept = ("model", "options", "precision", "batch", "threads")
                work = {name: getattr(given, name) for name in kept}
                work |= {"backend": backend, "width": width, "height": height}
                print(compare(before, work, given.rounds), flush=True)


if __name__ == "__main__":
    main()
