"""The kernels in Triton's interpreter: the files of ``interpreted``, in a process of their own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton", reason="Triton is not installed: pip install '.[test]' installs it on Linux")
ROOT = Path(__file__).resolve().parents[2]
FILES = sorted((ROOT / "tests" / "kernels" / "interpreted").glob("check_*.py"))


@pytest.mark.slow
def test_every_kernel_in_the_interpreter():
    """One process runs all files, because starting torch takes longer than most of them."""
    assert len(FILES) >= 5
    path = os.pathsep.join([str(ROOT), str(ROOT / "kernels"), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {**os.environ, "TRITON_INTERPRET": "1", "PYTHONPATH": path, "PYTEST_ADDOPTS": ""}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-n", "0"]
    ran = subprocess.run([*command, *FILES], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout[-6000:] + ran.stderr[-2000:]
