"""The day on a GPU, rehearsed: real steps on the CPU, and steps that end badly."""

import csv
import json

import psutil
import pytest

pytest.importorskip("triton", reason="Triton is not installed: pip install '.[test]' on Linux brings it")

from bench.gpu_day import STEPS, Step, _status, main, run_day

pytestmark = pytest.mark.slow

BAD = (
    Step("crashes", "tests.bench.step_crashes", 60),
    Step("hangs", "tests.bench.step_hangs", 10),
    Step("lacks", "tests.bench.step_lacks_a_module", 60),
    Step("stumbles", "tests.bench.step_stumbles", 60),
)


def table(output):
    (path,) = output.glob("gpu_day_*.csv")
    return list(csv.DictReader(line for line in path.read_text(encoding="utf-8").splitlines() if line[0] != "#"))


def test_two_steps_in_rehearsal(tmp_path, capsys):
    assert main(["--rehearse", "--output", str(tmp_path), "--only", "machine", "--only", "kernels"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in lines[:-1]] == [["machine", "ok"], ["kernels", "ok"]]
    machine = json.loads((tmp_path / "machine.json").read_text(encoding="utf-8"))
    assert machine["facts"]["packages"]["torch"]
    assert any("Backends" in line for line in machine["facts"]["doctor"])
    rows = table(tmp_path)
    copies = [row for row in rows if row["case"] == "copy"]
    assert len(copies) == 5
    assert all(float(row["value"]) > 0 for row in copies)
    kernels = [row for row in rows if row["step"] == "kernels" and row["metric"] == "µs"]
    assert {row["variant"] for row in kernels} == {"torch", "gankit", "gankit in place", "copy"}
    assert len({row["case"] for row in kernels}) == 36


def test_the_steps_that_have_not_met_a_gpu_yet(tmp_path, capsys):
    """Engines that share a queue, stitching and dense blocks, with the pixels that they must give."""
    names = ("dense", "stitching", "several")
    assert main(["--rehearse", "--output", str(tmp_path), *(word for name in names for word in ("--only", name))]) == 0
    assert [line.split()[:2] for line in capsys.readouterr().out.splitlines()[:-1]] == [[name, "ok"] for name in names]
    differences = [row for row in table(tmp_path) if row["metric"].startswith("largest difference")]
    assert [row["step"] for row in differences] == list(names)
    assert [float(row["value"]) for row in differences] == [0, 0, 0]


def test_what_no_time_is_left_for_is_named(tmp_path):
    """It is no error: the step ends in time, with the figures that it has."""
    from bench.gpu.report import Report

    report = Report(tmp_path / "step.json", "step", limit=10)
    assert report.has_time(5, "one", "eager")
    assert not report.has_time(20, "two", "compiled")
    content = json.loads((tmp_path / "step.json").read_text(encoding="utf-8"))
    (figure,) = content["figures"]
    assert (figure["case"], figure["variant"], figure["metric"]) == ("two", "compiled", "left out")
    assert figure["value"] is None
    assert _status(0, content) == "ok"


def test_the_most_valuable_figures_of_compile_come_first(tmp_path, monkeypatch):
    """Without time for a compilation, the figures of eager are there, and every other case is named."""
    import torch

    from bench.gpu import compiled
    from bench.gpu.device import Device
    from bench.gpu.report import Report

    monkeypatch.setattr(torch, "compile", lambda *_, **__: pytest.fail("there is no time for this"))
    report = Report(tmp_path / "step.json", "step", limit=20)
    compiled.run(Device(), report)
    figures = json.loads((tmp_path / "step.json").read_text(encoding="utf-8"))["figures"]
    eager = [item for item in figures if item["metric"] == "ms"]
    left = [item for item in figures if item["metric"] == "left out"]
    assert [item["variant"] for item in eager] == ["eager, kernels on"] * 2
    assert len(left) == len(list(compiled.cases())) - 2
    assert (left[0]["case"], left[0]["variant"]) == ("cyclegan 1×32×64", "static, graphs, kernels off")


def test_max_autotune_beside_gankit(tmp_path, monkeypatch):
    """The step, with nothing compiled: every way gives its figures, and the same pixels."""
    import torch

    from bench.gpu import autotune
    from bench.gpu.device import Device
    from bench.gpu.report import Report

    monkeypatch.setattr(torch, "compile", lambda net, **_: net)
    autotune.run(Device(), Report(tmp_path / "step.json", "step"))
    figures = json.loads((tmp_path / "step.json").read_text(encoding="utf-8"))["figures"]
    rows = {(item["variant"], item["metric"]): item["value"] for item in figures}
    for variant in ("gankit", "reduce-overhead", "max-autotune"):
        assert rows[variant, "wall, ms"] > 0
        assert rows[variant, "network, events, ms"] > 0
    assert float(rows["max-autotune", "PSNR of gankit against it, dB"]) > 60


@pytest.fixture(scope="module")
def bad_day(tmp_path_factory):
    output = tmp_path_factory.mktemp("day")
    return {item.step.name: item for item in run_day(BAD, output, total=600, rehearse=True)}, output


def test_a_crash_leaves_what_it_had_and_the_next_step_runs(bad_day):
    results, output = bad_day
    assert list(results) == [step.name for step in BAD]
    assert results["crashes"].status == "crashed SIGSEGV"
    assert [item["case"] for item in results["crashes"].content["figures"]] == ["before"]
    assert {row["status"] for row in table(output) if row["step"] == "crashes"} == {"crashed SIGSEGV"}


def test_a_timeout_ends_the_whole_process_group(bad_day):
    result = bad_day[0]["hangs"]
    assert result.status == "timeout"
    child = result.content["facts"]["child"]
    assert not psutil.pid_exists(child) or psutil.Process(child).status() == psutil.STATUS_ZOMBIE


def test_missing_modules_are_named(bad_day):
    result = bad_day[0]["lacks"]
    assert result.status == "missing"
    assert result.content["missing"] == ["no_such_module_anywhere"]
    assert "no_such_module_anywhere" in str(result)


def test_a_figure_that_cannot_be_had_is_named_and_the_others_stay(bad_day):
    results, output = bad_day
    assert results["stumbles"].status == "errors"
    first, second, third = [row for row in table(output) if row["step"] == "stumbles"][1:]
    assert (first["metric"], first["value"], first["note"]) == ("error", "", "ValueError: no kernel")
    assert (second["value"], third["value"]) == ("2.5", "inf")


def test_no_time_left(tmp_path):
    (result,) = run_day(BAD[:1], tmp_path, total=0, rehearse=True)
    assert result.status == "not started"
    assert table(tmp_path)[0]["status"] == "not started"


def test_without_a_gpu_a_step_says_so(tmp_path, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    (result,) = run_day([step for step in STEPS if step.name == "kernels"], tmp_path, total=600, rehearse=False)
    assert result.status == "failed"
    assert "--rehearse" in result.content["error"]


def test_skip_and_only(tmp_path, monkeypatch):
    chosen = []
    monkeypatch.setattr("bench.gpu_day.run_day", lambda steps, *_, **__: chosen.extend(s.name for s in steps) or [])
    main(["--output", str(tmp_path), "--skip", "kernels", "--skip", "parity"])
    assert chosen == [step.name for step in STEPS if step.name not in ("kernels", "parity")]
