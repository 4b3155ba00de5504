"""End to end on a folder: PNG in, PNG out, decode and encode included, per image.

``--images N`` takes the first N of kodak24 (24 is the whole set). Weights are loaded, and engines compiled at the first
run, before the clock starts, for the baselines too; the row of the command includes all.
"""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bench.candidates import Subject, candidates_of, works
from bench.common import gigaflop, images, psnr, read
from bench.comparison import Task, compare, failures


@pytest.fixture
def sources(request: pytest.FixtureRequest, tmp_path: Path, whole: bool) -> list[Path]:
    """The images, alone in a folder; in the default subset the middle of one, so that it ends within minutes."""
    (tmp_path / "sources").mkdir()
    chosen = images()[1][: request.config.getoption("images") or (4 if request.config.getoption("full") else 1)]
    if whole or request.config.getoption("images"):
        return [Path(shutil.copy(path, tmp_path / "sources")) for path in chosen]
    target = tmp_path / "sources" / "middle.png"
    pixels = read(chosen[0])
    top, left = max(0, pixels.shape[0] - 192) // 2, max(0, pixels.shape[1] - 256) // 2
    Image.fromarray(pixels[top : top + 192, left : left + 256]).save(target)
    return [target]


def test_folder(benchmark, rows, request, model: Subject, sources: list[Path], whole: bool, setting, tmp_path):
    candidates = candidates_of(model.loaded, every=whole, folder=True, named=request.config.getoption("candidates"))
    sizes = [read(path).shape[:2] for path in sources]
    size = f"{sizes[0][1]}×{sizes[0][0]}" if len(set(sizes)) == 1 else "mixed"
    suite = f"{model.name}, {images()[0]}, {len(sources)} image{'s' * (len(sources) > 1)}"
    gflop = sum(gigaflop(model.loaded, *shape) for shape in sizes) / len(sizes)
    megapixels = sum(float(np.prod(shape)) for shape in sizes) / len(sizes) / 1e6
    task = Task(suite, model.name, size, megapixels, len(sources), gflop)
    output = tmp_path / "results"

    def parity(saved: Path, number: int) -> float:
        """The worst image's."""
        truth = {path.stem: read(path) for path in (output / "0").iterdir()}
        return min(psnr(read(path), truth[path.stem]) for path in (output / str(number)).glob("*.png"))

    benchmark.group = suite
    todo = works(model, candidates, sources=tuple(map(str, sources)), output=str(output))
    found = compare(benchmark, todo, task, replace(setting, rounds=setting.rounds or 3), parity, tmp_path)
    rows += found
    assert not failures(found), "\n".join(failures(found))
    worse = [f"{row.label} {row.precision}: {row.parity_db:.1f} dB" for row in found if row.below_gate]
    assert not worse, "below the gate: " + "; ".join(worse)
