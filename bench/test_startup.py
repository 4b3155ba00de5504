"""How long the command line takes to say anything."""

from __future__ import annotations

import subprocess
import sys
import time

import numpy as np

from bench.common import ROOT, Row, spread
from bench.rounds import in_rounds

COMMANDS = {
    "python -c pass": "pass",
    "python -c 'import gankit'": "import gankit",
    "gankit --help": "from gankit.cli import main; main(['--help'])",
    "gankit upscale --help": "from gankit.cli import main; main(['upscale', '--help'])",
}


def once(command: str) -> float:
    """Seconds of one process."""
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", command], check=True, cwd=ROOT, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


def test_startup(benchmark, rows, setting):
    runs = [lambda command=command: once(command) for command in COMMANDS.values()]
    for run in runs:
        run()  # reads the files from the disk
    benchmark.group = "start"
    times = benchmark.pedantic(in_rounds, args=(runs, setting.rounds or 3, setting.budget), rounds=1)
    for label, seconds in zip(COMMANDS, times, strict=True):
        median = float(np.median(seconds)) * 1e3
        rows.append(Row("start", label, median, rounds=len(seconds), spread=spread(seconds)))
