"""The benchmark of engines: its processes, its figures, its files."""

import csv
import io
import json
import math
import sys
import time

import numpy as np
import pytest

from gankit.checkpoints import save
from gankit.cli import main
from gankit.errors import GankitError, OutputError, UsageError
from gankit.models import build
from gankit.pipeline import benchmark_process, benchmarking
from gankit.pipeline.benchmark_process import Worker
from gankit.pipeline.benchmark_rows import COLUMNS, Row, check_file, plot, write_csv
from gankit.pipeline.benchmark_worker import Job, peak_bytes, prepare, real_pixels, serve
from gankit.pipeline.benchmarking import BenchmarkOptions, measure
from tests.networks import small_srgan


@pytest.fixture
def weights(tmp_path):
    path = tmp_path / "small.safetensors"
    save(path, small_srgan(channels=8, blocks=1).state_dict(), "srgan", {"scale": 4, "channels": 8, "blocks": 1})
    return str(path)


class Here(Worker):
    """A worker without a process, because each takes seconds to import torch."""

    def __post_init__(self):
        self._began, self._ready = time.perf_counter(), None

    def _ask(self, line):
        if self.error:
            return None
        if self._ready is None:
            try:
                self._ready = prepare(Job.from_json(line))
            except GankitError as error:
                self.error = str(error)
                return None
            return self._ready.facts
        if line == "parity":
            return self._ready.parity()
        return {"seconds": self._ready.run(), "peak": 1 << 26, "gpu": None}

    def close(self):
        pass


@pytest.fixture
def here(monkeypatch):
    """Run workers in this process."""
    monkeypatch.setattr(benchmarking, "Worker", Here)


def row(seconds=(0.1, 0.2, 0.4), **facts):
    given = {"model": "net", "input": "100×100", "batch": 1, "backend": "eager", "precision": "fp32", "device": "cpu"}
    return Row(**{**given, "seconds": tuple(seconds), "megapixels": 0.01, **facts})


def answers(job, *orders):
    """What a worker answers, in this process."""
    written = io.StringIO()
    serve([job.to_json(), *(f"{order}\n" for order in orders)], written)
    return [json.loads(line) for line in written.getvalue().splitlines()]


def test_figures():
    item = row(flop=2e9, ceiling=4e10)
    assert (item.median, item.p90, item.unstable) == (0.2, None, True)
    assert item.spread == pytest.approx(1.5)
    assert item.megapixels_per_second == pytest.approx(0.05)
    assert (item.flops, item.share) == (pytest.approx(1e10), pytest.approx(0.25))
    ten = [value / 100 for value in range(1, 11)]
    assert row(ten).p90 == pytest.approx(np.percentile(ten, 90))
    assert not row([0.100, 0.105, 0.101]).unstable
    assert (row([0.1]).spread, row([]).median, row([]).share) == (None, None, None)
    assert row(parity=44.9).below_gate
    assert not row(parity=math.inf).below_gate


@pytest.mark.slow
def test_engines_in_processes(weights, capsys, monkeypatch):
    """Real processes, of which one is killed: its row says so, and the other engine goes on."""
    started = benchmarking._started

    def start(job):
        worker = started(job)
        assert not worker.facts["exported"]  # as in a second start
        if job.backend == "onnxruntime":
            worker._process.kill()
        return worker

    monkeypatch.setattr(benchmarking, "_started", start)
    command = ["bench", "--model", weights, "-b", "eager", "-b", "onnxruntime", "--precision", "fp32", "--size", "16"]
    assert main([*command, "--rounds", "1", "--device", "cpu"]) == 1
    shown = capsys.readouterr().out
    assert "failed: its process was killed by signal 9" in shown
    assert "eager fp32" in shown


@pytest.mark.slow
def test_the_command(weights, here, tmp_path, capsys):
    path = tmp_path / "figures.csv"
    command = ["bench", "--model", weights, "-b", "eager", "-b", "onnxruntime", "--precision", "fp32"]
    command += ["--size", "24x16"]
    assert main([*command, "--rounds", "2", "--device", "cpu", "--csv", str(path), "--quiet"]) == 0
    shown = capsys.readouterr().out
    for words in ("small.safetensors, 24×16, cpu", "eager fp32", "onnxruntime fp32", "parity dB", "ceiling"):
        assert words in shown
    lines = path.read_text().splitlines()
    assert any(line.startswith("# torch: ") for line in lines)
    found = list(csv.DictReader(line for line in lines if not line.startswith("#")))
    assert [item["backend"] for item in found] == ["eager", "onnxruntime"]
    for item in found:
        assert set(item) == set(COLUMNS)
        assert item["n"] == "2"
        assert float(item["parity_db"]) > 80
        speed = 24 * 16 / 1e6 / (float(item["median_ms"]) / 1e3)
        assert float(item["mp_per_s"]) == pytest.approx(speed)
        assert float(item["share_of_ceiling"]) > 0
        assert float(item["peak_mib"]) == 64
    assert main([*command, "--csv", str(path)]) == 2
    assert "--overwrite" in capsys.readouterr().err


@pytest.mark.slow
def test_the_work_of_a_run_is_that_of_the_model(weights, here):
    """The operations of one run agree with a sum by hand over the convolutions of the network."""
    options = BenchmarkOptions(("eager",), ("fp32",), "cpu", ((8, 16),), rounds=1)
    made = measure(weights, options)
    (item,) = made.rows
    pixels, width = 8 * 16, 8
    body = 81 * 3 * width + 3 * 9 * width * width  # the first, two of the block and the one after it
    grown = 9 * width * 4 * width * (1 + 4) + 81 * width * 3 * 16  # two for PixelShuffle, the last at ×4
    assert item.flop == 2 * pixels * (body + grown)
    assert made.machine["cores"] >= 1


def test_translation_and_samples(tmp_path):
    options = {"channels": 4, "blocks": 1}
    save(tmp_path / "t.safetensors", build("cyclegan", options).state_dict(), "cyclegan", options)
    job = Job(
        "engine", "fp32", "cpu", 1, str(tmp_path / "t.safetensors"), backend="eager", height=30, width=20, batch=2
    )
    ready, run, parity = answers(job, "run", "parity")
    assert (ready["exported"], run["gpu"]) == (False, None)
    assert 50e6 < run["peak"] <= peak_bytes()
    assert run["seconds"] > 0
    assert float(parity["psnr"]) > 60
    save(tmp_path / "g.safetensors", build("cgan").state_dict(), "cgan", {})
    job = Job("engine", "fp32", "cpu", 1, str(tmp_path / "g.safetensors"), backend="eager", batch=5)
    assert float(answers(job, "run", "parity")[2]["psnr"]) > 60


@pytest.mark.slow
def test_a_first_start_that_exports_is_not_counted(weights, monkeypatch, tmp_path):
    monkeypatch.setenv("GANKIT_CACHE", str(tmp_path / "cache"))
    job = Job("engine", "fp32", "cpu", 1, weights, backend="onnxruntime", height=16, width=16)
    assert [answers(job)[0]["exported"] for _ in range(2)] == [True, False]


def test_the_ceiling_is_a_rate_of_convolutions():
    job = Job("ceiling", "fp32", "cpu", 1)
    ready, run = answers(job, "run")
    assert 1e9 < ready["flop"] / min(run["seconds"], ready["seconds"]) < 1e14


def test_a_failure_is_one_line(tmp_path):
    job = Job("engine", "fp32", "cpu", 1, str(tmp_path / "none.pth"), backend="eager", height=8, width=8)
    assert "none.pth" in answers(job, "run")[0]["error"]


def test_what_the_process_said_last_is_reported(monkeypatch):
    monkeypatch.setattr(benchmark_process, "MODULE", "gankit.no_such_module")
    with Worker(Job("ceiling", "fp32", "cpu")) as worker:
        worker.start()
        worker.run()
    assert worker.error.startswith("its process ended with 1: ")
    assert "gankit.no_such_module" in worker.error
    assert worker._process.poll() is not None


def test_a_slow_engine_gets_one_round(weights, here):
    made = measure(weights, BenchmarkOptions(("eager",), ("fp32",), "cpu", ((8, 8),), rounds=50, seconds=1e-9))
    assert len(made.rows[0].seconds) == 1


def test_images_of_any_size():
    small, large = real_pixels(3, 20, 30), real_pixels(1, 500, 700)
    assert (small.shape, large.shape, large.dtype) == ((20, 30, 3), (500, 700, 1), np.uint8)
    assert small.std() > 10
    assert large[-100:].std() > 10


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--size", "0x9"], "WIDTHxHEIGHT"),
        (["--size", "9x"], "WIDTHxHEIGHT"),
        (["--backend", "opnvino"], "did you mean 'openvino'"),
        (["--csv", "figures.txt"], "must end in .csv"),
        (["--plot", "figures.bmp"], "must end in .svg, .png or .pdf"),
        (["--csv", "none/figures.csv"], "no such folder"),
        (["-b", "onnxruntime", "--precision", "bf16", "--device", "cpu"], "no backend can run this model here: onnx"),
    ],
)
def test_wrong_use(arguments, words, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["bench", *arguments]) == 2
    assert words in capsys.readouterr().err


def test_options_are_checked():
    with pytest.raises(UsageError, match="rounds must be a whole number above 0, not 0"):
        BenchmarkOptions(rounds=0)
    with pytest.raises(UsageError, match="at least one height"):
        BenchmarkOptions(sizes=())


def test_files_that_cannot_be_written(tmp_path):
    (tmp_path / "a.csv").mkdir()
    with pytest.raises(UsageError, match="already exists"):
        check_file(tmp_path / "a.csv", (".csv",), False)
    with pytest.raises(OutputError, match=r"a\.csv: cannot be written"):
        write_csv([row()], tmp_path / "a.csv", {})


def test_the_plot(tmp_path):
    pytest.importorskip("matplotlib", reason="the extra 'plot' is not installed")
    rows = [row(), row(backend="openvino", parity=30.0), row((), input="9×9", error="no"), row(input="200×100")]
    plot(rows, tmp_path / "a.svg", "net, a processor")
    text = (tmp_path / "a.svg").read_text()
    for words in ("100×100", "200×100", "openvino fp32, below the gate", "net, a processor"):
        assert f"<!-- {words} -->" in text
    assert "<!-- 9×9 -->" not in text
    plot(rows[:1], tmp_path / "a.png", "net")
    assert (tmp_path / "a.png").read_bytes()[:4] == b"\x89PNG"


def test_without_matplotlib_one_line_says_so(monkeypatch, capsys, tmp_path):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert main(["bench", "--plot", str(tmp_path / "a.svg")]) == 2
    assert "pip install 'gankit[plot]'" in capsys.readouterr().err
