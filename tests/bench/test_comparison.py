"""Rounds, rows, tables and files of the benchmarks, on work that is small."""

import csv
import os
import subprocess
import sys
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch

from bench import results, table
from bench.candidates import Candidate, Subject, Work, candidates_of, works
from bench.common import EAGER, ONNXRUNTIME, OPENVINO, ROOT, Row, psnr, ratio, spread
from bench.comparison import Setting, Task, compare, failures
from bench.rounds import Outcome, in_rounds
from gankit import backends, checkpoints, models
from gankit.backends.eager import EagerBackend

FULL_SCALE_STEP = 48.1308  # dB between two images that differ by 1 of 255 everywhere: 20 log10(255)


class Fake(EagerBackend):
    """A backend of somebody else."""

    name = "fake"


class Clock:
    """pytest-benchmark's fixture, as far as it is used."""

    def pedantic(self, target, args, rounds):
        assert rounds == 1
        return target(*args)


@pytest.fixture(scope="module")
def subject(tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights")
    options = {"channels": 8, "blocks": 1}
    torch.manual_seed(0)
    path = folder / "small.safetensors"
    checkpoints.save(path, models.build("srgan", options).state_dict(), "srgan", models.facts("srgan", options).options)
    return Subject(checkpoints.open_model(str(path)), str(path), folder)


def test_rounds_interleave_and_go_on_without_who_fails():
    order = []

    def run(name, fails_in):
        def once():
            order.append(name)
            return None if order.count(name) == fails_in else 1.0

        return once

    times = in_rounds([run("A", 0), run("B", 2), run("C", 0)], rounds=3, budget=1e9)
    assert "".join(order) == "ABCABCAC"
    assert [len(item) for item in times] == [3, 1, 3]


def test_one_candidate_starts_after_the_other(monkeypatch, tmp_path):
    """Else the start of each would be measured with the first runs of those before it."""
    events = []

    class Stand:
        def __init__(self, work, log):
            self.outcome, self.name = Outcome(work.candidate), work.candidate.backend
            events.append(f"start {self.name}")

        def run(self):
            events.append(self.name)
            return 2.0 if self.name == "slow" else 0.5

        def save(self, path):
            np.save(path, np.zeros(1, np.uint8))

        def __enter__(self):
            return self

        def __exit__(self, *exc):
            pass

    monkeypatch.setattr("bench.comparison.Worker", Stand)
    todo = [Work(Candidate("plain", name), "", "", "upscale", (0, 1)) for name in ("A", "slow", "B")]
    rows = compare(Clock(), todo, Task("s", "m", "", 1.0, 1, 1.0), Setting(2, 1.0, 1e9), lambda *_: 50.0, tmp_path)
    assert events == ["start A", "A", "start slow", "slow", "start B", "B", "A", "B", "A", "B"]
    assert [(row.rounds, row.milliseconds) for row in rows] == [(2, 500.0), (1, 2000.0), (2, 500.0)]


def test_no_round_begins_for_which_there_is_no_time():
    assert in_rounds([lambda: 1.0], rounds=5, budget=0.0) == [[1.0]]


def test_spread_and_stability():
    assert spread([2.0]) is None
    assert spread([2.0, 2.1, 2.2]) == pytest.approx(0.2 / 2.1)
    assert not Row("s", "a", 1.0, spread=0.10).unstable
    assert Row("s", "a", 1.0, spread=0.11).unstable


def test_psnr():
    image = np.full((4, 4, 3), 100, np.uint8)
    assert psnr(image, image) == float("inf")
    assert psnr(image, image + 1) == pytest.approx(FULL_SCALE_STEP, abs=1e-3)


def test_ratios_stay_within_a_suite_and_above_the_gate():
    base, other = Row("s", OPENVINO, 10.0), Row("t", OPENVINO, 100.0)
    assert ratio(Row("s", "a", 5.0), [other, base], OPENVINO) == 2.0
    assert ratio(Row("s", "a", 5.0, parity_db=30.0), [base], OPENVINO) is None


@pytest.mark.parametrize("every", [False, True])
def test_a_new_backend_takes_part_by_itself(subject, monkeypatch, every):
    with_fake = {**backends.BACKENDS, "fake": f"{__name__}:Fake"}
    monkeypatch.setattr(backends, "BACKENDS", with_fake)
    found = [str(item) for item in candidates_of(subject.loaded, every=every, folder=False)]
    assert found[0] == EAGER
    assert any(name.startswith("gankit fake ") for name in found)
    assert every == any(name.startswith("gankit compile ") for name in found)


def test_candidates_by_name(subject):
    found = candidates_of(subject.loaded, every=True, folder=True, named="eager fp32, command")
    assert [str(item) for item in found] == [EAGER, "gankit eager fp32 cpu", "gankit, the command"]


@pytest.mark.slow
def test_a_comparison_of_processes(subject, tmp_path):
    """Real workers on a real tile; one that cannot run is a row with its reason, and the others have figures."""
    candidates = [Candidate("plain", EAGER), Candidate("gankit", "eager", "fp32", "cpu")]
    candidates.append(Candidate("gankit", "eager", "fp16", "cpu"))
    plain = [item for item in candidates_of(subject.loaded, every=True, folder=False) if item.kind == "plain"]
    candidates += plain[1:]
    todo = works(subject, candidates, side=32)
    task = Task("a tile", "small", "32×32", 32 * 32 / 1e6, 1, 0.1)
    rows = compare(Clock(), todo, task, Setting(2, 1e9, 1e9), lambda path, _: _parity(path, tmp_path), tmp_path)
    assert [row.label for row in rows[:3]] == [EAGER, "gankit eager", "gankit eager"]
    good = [row for row in rows if row is not rows[2]]
    assert all(row.rounds == 2 and row.peak_mib > 10 and row.start_seconds > 0 for row in good)
    exact = [row for row in good if row.precision == "fp32"]
    assert {EAGER, "gankit eager", *(ONNXRUNTIME for item in plain if item.backend == ONNXRUNTIME)} <= {
        row.label for row in exact
    }
    assert min(row.parity_db for row in exact) > 60
    (failure,) = failures(rows)
    assert "fp16" in failure
    assert "failed" in table.render(rows, "a machine")


def _parity(path, folder):
    return psnr(np.load(path), np.load(folder / "0.npy"))


ROWS = [
    Row("s", EAGER, 100.0, 0.5, float("inf"), precision="fp32", model="srgan", rounds=5, spread=0.02, gflop=7.0),
    Row("s", OPENVINO, 50.0, 0.5, 52.0, precision="bf16", model="srgan", rounds=5, spread=0.5),
    Row("s", "gankit eager", 25.0, 0.5, 51.0, precision="bf16", model="srgan", rounds=5, spread=0.01, peak_mib=812.4),
    Row("t", "gankit eager", 25.0, 0.5, 40.0, precision="bf16", model="cyclegan", rounds=1),
    Row("start", "gankit --help", 321.0, rounds=5, spread=0.01),
]


def test_the_table():
    text = table.render(ROWS, "a machine")
    lines = {line.split("  ")[0].strip(): line for line in text.splitlines()}
    assert "unstable" in lines[OPENVINO]
    assert lines[EAGER].count("unstable") == 0
    assert "2.00" in next(line for line in text.splitlines() if "812" in line)
    assert "below 45 dB" in text
    assert "start s" not in text.splitlines()[2], "columns without a figure are left out"
    assert max(map(len, text.splitlines()[:15])) < 160


def test_files_for_each_model(tmp_path):
    report = {
        "datetime": "2026-01-02T03:04:05",
        "commit_info": {"id": "0123456789abcdef"},
        "machine_info": {
            "gankit": {
                "machine": {"cpu": "A CPU", "cores": 2, "features": ["AVX2"], "memory_gib": 8.0, "gpu": None},
                "versions": {"torch": "2.13.0", "triton": None},
                "model": "srgan",
            }
        },
        "benchmarks": [{"extra_info": {"rows": [asdict(row) for row in ROWS]}}, {"extra_info": {}}],
    }
    first, second = results.write(report, tmp_path)
    assert (first.name, second.name) == ("a_cpu_2_cores_avx2_srgan.csv", "a_cpu_2_cores_avx2_cyclegan.csv")
    head = first.read_text(encoding="utf-8").splitlines()
    assert head[0] == "# 2026-01-02, commit 0123456789ab"
    rows = list(csv.DictReader(head[3:]))
    assert [row["what"] for row in rows] == [EAGER, OPENVINO, "gankit eager", "gankit --help"]
    assert (rows[2]["x eager"], rows[2]["x OpenVINO"], rows[2]["spread %"]) == ("4.00", "2.00", "1.0")
    assert rows[0]["GFLOP/s"] == "70"
    only = replace(ROWS[-1])
    report["benchmarks"] = [{"extra_info": {"rows": [asdict(only)]}}]
    assert [path.name for path in results.write(report, tmp_path)] == ["a_cpu_2_cores_avx2_srgan.csv"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        ([], {"test_tile[srgan-128]", "test_tile[cyclegan-256]", "test_folder", "test_png[smooth]", "test_startup"}),
        (
            ["bench/test_engines.py", "--model", "cyclegan", "-k", "256"],
            {"test_tile[cyclegan-256]", "test_arithmetic[cyclegan-256-fp32]", "test_arithmetic[cyclegan-256-bf16]"},
        ),
    ],
    ids=["subset", "a file"],
)
def test_which_benchmarks_run(words, wanted):
    command = [sys.executable, "-m", "pytest", "--benchmark-only", "--collect-only", "-q", *words]
    # pytest-benchmark refuses to run beside pytest-xdist, whose variables a test inherits
    alone = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    done = subprocess.run(command, cwd=ROOT, env=alone, capture_output=True, text=True, check=True)
    assert {line.partition("::")[2] for line in done.stdout.splitlines() if "::" in line} == wanted
