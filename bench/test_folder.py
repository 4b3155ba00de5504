"""End to end on a folder: PNG in, PNG out, decode and encode included, per image.

``--images N`` takes the first N of kodak24 (default 4; 24 is the whole set). Weights are loaded, and engines
compiled on the first image, before the clock starts, for the baselines too; the row of the command includes all.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from bench.baselines import BASELINES, Run, folder
from bench.common import EAGER, GATE_DB, OPENVINO, ROOT, Row, engines, images, name_of, read
from gankit import Translator, Upscaler
from gankit.checkpoints import open_model
from gankit.evaluation import psnr

_PIPELINES = {"upscale": Upscaler, "translate": Translator}


@pytest.fixture(scope="module")
def sources(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The images, alone in a folder."""
    target = tmp_path_factory.mktemp("folder")
    chosen = images()[1][: request.config.getoption("--images")]
    return [Path(shutil.copy(path, target)) for path in chosen]


@pytest.fixture(scope="module")
def suite(sources: list[Path]) -> str:
    return f"folder {images()[0]}, n = {len(sources)}, per image"


@pytest.fixture(scope="module")
def truth(model: str, sources: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder for the images of the eager fp32 baseline; filled by its benchmark, or by the first who needs them."""
    return tmp_path_factory.mktemp("truth")


@pytest.mark.parametrize("label", BASELINES)
def test_baseline(benchmark, rows, model, sources, suite, truth, tmp_path, label):
    pytest.importorskip(label.partition(",")[0]) if label != EAGER else None
    run = _baseline(label, model)
    output = truth if label == EAGER else tmp_path
    for first in {read(path).shape: path for path in sources}.values():
        folder(run, [first], tmp_path)
    benchmark.group = suite
    benchmark.pedantic(folder, args=(run, sources, output), rounds=1)
    _note(benchmark, rows, model, sources, suite, truth, output, label)


@pytest.mark.parametrize(("backend", "precision", "device"), [("auto", "auto", "auto"), *engines()])
def test_gankit(benchmark, rows, model, sources, suite, truth, tmp_path, backend, precision, device):
    benchmark.group = suite
    pipeline = _PIPELINES[open_model(model).facts.task]
    with pipeline(model, backend=backend, precision=precision, device=device) as images:
        for first in {read(path).shape: path for path in sources}.values():
            images.run(first, tmp_path / "first")
        report = benchmark.pedantic(images.run, args=([sources[0].parent], tmp_path / "all"), rounds=1)
    assert report.totals.done == len(sources)
    totals, engine = report.totals, report.engine
    seconds = {
        "decode": totals.decode_seconds, "engine": totals.engine_seconds, "encode": totals.encode_seconds,
    }  # fmt: skip
    each = ", ".join(f"{name} {value / len(sources) * 1e3:.0f}" for name, value in seconds.items())
    ran = name_of(engine.backend, engine.precision, engine.device)
    label = f"gankit auto ({ran.removeprefix('gankit ')})" if backend == "auto" else ran
    benchmark.extra_info.update(
        seconds, backend=engine.backend, precision=engine.precision, start_seconds=engine.start_seconds
    )
    _note(benchmark, rows, model, sources, suite, truth, tmp_path / "all", label, f"ms in {each}")


def test_command(benchmark, rows, model, sources, suite, truth, tmp_path):
    """``gankit upscale`` as a user types it, with the start of Python, the weights and the (cached) choice."""
    task = open_model(model).facts.task
    words = [sys.executable, "-c", "import sys; from gankit.cli import main; sys.exit(main())", task, "--quiet"]
    command = [*words, "--model", model, str(sources[0].parent), "--output", str(tmp_path / "all")]
    benchmark.group = suite
    benchmark.pedantic(subprocess.run, args=(command,), kwargs={"check": True, "cwd": ROOT}, rounds=1)
    label = f"gankit {task} (command, start included)"
    _note(benchmark, rows, model, sources, suite, truth, tmp_path / "all", label)


def test_baseline_again(benchmark, rows, model, sources, suite, truth, tmp_path):
    """The difference to its first row is how far the machine drifted meanwhile."""
    pytest.importorskip("openvino")
    run = _baseline(OPENVINO, model)
    for first in {read(path).shape: path for path in sources}.values():
        folder(run, [first], tmp_path)
    benchmark.group = suite
    benchmark.pedantic(folder, args=(run, sources, tmp_path), rounds=1)
    _note(benchmark, rows, model, sources, suite, truth, tmp_path, f"{OPENVINO} (again)")


def _baseline(label: str, model: str) -> Run:
    loaded = open_model(model)
    return BASELINES[label](loaded.generator, loaded.facts)


def _note(benchmark, rows, model, sources, suite, truth: Path, output: Path, label: str, remark: str = "") -> None:
    """The row of the table; parity is the worst image's."""
    missing = [path for path in sources if not (truth / f"{path.stem}.png").exists()]
    if missing:
        folder(_baseline(EAGER, model), missing, truth)
    parities = []
    for path in sources:
        result = next(output.glob(f"{path.stem}.*"))
        parities.append(psnr(read(result), read(truth / f"{path.stem}.png")))
    megapixels = float(np.mean([np.prod(read(path).shape[:2]) for path in sources])) / 1e6
    row = Row(suite, label, benchmark.stats.stats.median * 1e3 / len(sources), megapixels, min(parities), remark)
    rows.append(row)
    benchmark.extra_info.update({"label": label, "images": len(sources), "MP/s in": row.speed})
    benchmark.extra_info["parity_db"] = row.parity_db
    if label.startswith("gankit"):
        assert min(parities) >= GATE_DB, f"{label}: {min(parities):.1f} dB from fp32"
