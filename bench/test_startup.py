"""How long the command line takes to say anything."""

from __future__ import annotations

import subprocess
import sys

import pytest

from bench.common import ROOT, Row

COMMANDS = {
    "python -c pass": "pass",
    "python -c 'import gankit'": "import gankit",
    "gankit --help": "from gankit.cli import main; main(['--help'])",
    "gankit upscale --help": "from gankit.cli import main; main(['upscale', '--help'])",
}


@pytest.mark.parametrize("label", COMMANDS)
def test_startup(benchmark, rows, label):
    command = [sys.executable, "-c", COMMANDS[label]]
    benchmark.group = "start"
    options = {"check": True, "cwd": ROOT, "stdout": subprocess.DEVNULL}
    benchmark.pedantic(subprocess.run, args=(command,), kwargs=options, rounds=5, warmup_rounds=1)
    rows.append(Row("start", label, benchmark.stats.stats.median * 1e3))
    benchmark.extra_info["label"] = label
