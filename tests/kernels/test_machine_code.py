"""Machine code of kernels that is kept between runs."""

import subprocess
import sys

import pytest

pytest.importorskip("llvmlite")

from gankit.backends.cached import cached_files

RUN = """
import sys, torch
from pathlib import Path
from gankit_kernels.on_cpu import objects
from gankit_kernels.winograd import Winograd
objects.keep_in(Path(sys.argv[1]))
compile_, compiled = objects._compile, []
objects._compile = lambda text: compiled.append(1) or compile_(text)
torch.manual_seed(0)
weight, x = torch.randn(16, 16, 3, 3), torch.randn(1, 16, 12, 40)
wanted = torch.nn.functional.conv2d(x, weight)
assert (Winograd(weight)(x) - wanted).abs().max() < 3e-5 * wanted.abs().max()
print(len(compiled))
"""


def compiled_in(folder):
    done = subprocess.run([sys.executable, "-c", RUN, str(folder)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


def test_later_runs_compile_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("GANKIT_CACHE", str(tmp_path))
    folder = tmp_path / "winograd"
    assert compiled_in(folder) == 4
    found = cached_files()
    assert {(item.kind, item.model, item.problem()) for item in found} == {("winograd", "", None)}
    assert {item.path for item in found} == {*folder.iterdir()}
    assert compiled_in(folder) == 0
    damaged = found[0].path
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"?")
    assert "changed" in found[0].problem()
    assert compiled_in(folder) == 1
    assert compiled_in(folder) == 0


def test_a_folder_that_cannot_be_written_keeps_nothing(tmp_path):
    (tmp_path / "file").write_text("in its place")
    assert compiled_in(tmp_path / "file") == 4
