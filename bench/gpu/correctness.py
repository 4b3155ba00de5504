"""Step 2: the tests that need a GPU, without those that compile for minutes."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ET
from importlib.util import find_spec
from pathlib import Path

from bench.common import ROOT
from bench.gpu.device import Device
from bench.gpu.report import Report

TESTS = tuple(
    str(path.relative_to(ROOT))
    for pattern in ("tests/*/test_*on_gpu.py", "tests/training/test_cuda_training.py")
    for path in sorted(ROOT.glob(pattern))
)


def run(device: Device, report: Report) -> None:
    """Fill the report: a figure for each test, and their sums. In a rehearsal pytest skips them all."""
    import pytest  # noqa: F401 - its absence is to be named

    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder) / "junit.xml"
        # pyproject's options need plugins that may be missing here
        command = [sys.executable, "-m", "pytest", *TESTS, "-o", "addopts=", "-m", "not slow", "-q", "--tb=short"]
        command += ["-p", "no:cacheprovider", "-p", "no:benchmark", "-o", "filterwarnings=", f"--junitxml={result}"]
        if find_spec("xdist"):  # kernels compile side by side
            command += ["-n", "6"]
        done = subprocess.run(
            command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
        )
        report.facts["pytest"] = done.stdout.splitlines()[-200:]
        if not result.exists():
            raise RuntimeError(f"pytest ended with {done.returncode} and without a report")
        outcomes = [_outcome(case) for case in ET.parse(result).iter("testcase")]
    for name, outcome, why in outcomes:
        report.add(name, "", "outcome", outcome, why)
    for kind in ("passed", "failed", "skipped"):
        report.add("all tests", "", kind, float(sum(outcome == kind for _, outcome, _ in outcomes)))
    if any(outcome == "failed" for _, outcome, _ in outcomes):
        raise RuntimeError("tests failed")


def _outcome(case: ET.Element) -> tuple[str, str, str]:
    """Name, outcome and reason of a test."""
    name = case.get("name", "")
    for kind, word in (("failure", "failed"), ("error", "failed"), ("skipped", "skipped")):
        if (found := case.find(kind)) is not None:
            return name, word, " ".join((found.get("message") or "").split())[:300]
    return name, "passed", ""
