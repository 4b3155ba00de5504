r"""Fifteen minutes on a GPU: ``python -m bench.gpu_day --output FOLDER``.

Sixteen steps, each a process with a time limit of its own, in the order of what is most worth knowing:

1. ``machine``: nvidia-smi, ``gankit doctor``, versions, copy bandwidth.
2. ``correctness``: the tests that need a GPU, without those that compile for minutes.
3. ``parity``: five generators in three precisions, kernels on and off, against fp32 on the CPU.
4. ``engines``: gankit's engine beside plain PyTorch and torch.compile.
5. ``kernels``: gankit's kernels beside torch's operations and a copy.
6. ``product``: ``upscale``, ``translate`` and ``generate`` on folders of images, against the CPU's images.
7. ``sizes``: ten image sizes, first and second time.
8. ``limits``: little memory, a host program's settings, compute-sanitizer.
9. ``train``: 200 steps of two recipes.
10. ``dense``: ESRGAN with and without the concatenations of its dense blocks.
11. ``stitching``: a large image whose tiles are stitched on the GPU and on the host.
12. ``several``: two engines on one GPU, and all GPUs of the machine.
13. ``compiled``: torch.compile, dynamic and with CUDA graphs, kernels on and off; the engine of one fixed shape.
14. ``autotune``: CycleGAN beside torch.compile with ``mode="max-autotune"``, which compiles for minutes.
15. ``profile``: the kernels that take the time of each generator.
16. ``jpeg``: nvImageCodec's JPEG beside gankit's; it needs two packages, which its module names.

``dense``, ``compiled`` and ``profile`` begin with what is most worth knowing, and name what there is no time for.

Every step writes ``FOLDER/STEP.json`` after each figure, and ``FOLDER/STEP.log``; one that fails, crashes or runs out
of time leaves what it had, and the next one runs. At the end ``FOLDER/gpu_day_<gpu>.csv`` has all figures: copy it to
``bench/results/``. ``--rehearse`` runs the same code on a CPU with small sizes: its figures mean nothing.

Nothing has to be installed: the steps import gankit from this checkout. A step whose imports are missing says so in its
JSON. To carry packages to a machine without network, fetch their wheels where there is one, for the other's Python::

    pip download --dest wheels --no-deps --only-binary=:all: --python-version 3.12 --platform manylinux_2_28_x86_64 \
        --platform manylinux2014_x86_64 imagecodecs isal platformdirs

take the folder along, and there, without changing the torch that is installed::

    pip install --no-index --no-deps --find-links wheels imagecodecs isal platformdirs

or, where nothing may be installed, ``pip install --target extra`` likewise and ``PYTHONPATH=extra``.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
GRACE = 3.0
COLUMNS = ("step", "status", "case", "variant", "metric", "value", "note")


@dataclass(frozen=True)
class Step:
    """One step.

    Attributes:
        name: of the step and its files.
        module: whose ``run(device, report)`` it is.
        limit: seconds that it may take.
    """

    name: str
    module: str
    limit: float


STEPS = (
    Step("machine", "bench.gpu.machine", 60),
    Step("correctness", "bench.gpu.correctness", 150),
    Step("parity", "bench.gpu.parity", 120),
    Step("engines", "bench.gpu.engines", 180),
    Step("kernels", "bench.gpu.kernels", 90),
    Step("product", "bench.gpu.product", 200),
    Step("sizes", "bench.gpu.sizes", 40),
    Step("limits", "bench.gpu.limits", 60),
    Step("train", "bench.gpu.train", 60),
    Step("dense", "bench.gpu.dense", 60),
    Step("stitching", "bench.gpu.stitching", 40),
    Step("several", "bench.gpu.several", 60),
    Step("compiled", "bench.gpu.compiled", 150),
    Step("autotune", "bench.gpu.autotune", 240),
    Step("profile", "bench.gpu.profile", 60),
    Step("jpeg", "bench.gpu.jpeg", 40),
)


@dataclass(frozen=True)
class Result:
    """How a step ended.

    Attributes:
        step: which.
        status: ``ok``; ``errors``, of single figures; ``missing``, modules; ``failed``; ``crashed``; ``timeout``; or
            ``not started``, because the time was up.
        seconds: that it took.
        content: of its JSON.
    """

    step: Step
    status: str
    seconds: float
    content: dict[str, Any]

    def __str__(self) -> str:
        figures = self.content.get("figures", [])
        why = self.content.get("error") or next((item["note"] for item in figures if item["metric"] == "error"), "")
        words = f"{self.step.name:<12} {self.status:<11} {self.seconds:6.1f} s  {len(figures):4d} figures"
        return f"{words}  {why}".rstrip()


def run_step(step: Step, output: Path, limit: float, *, rehearse: bool) -> Result:
    """Run a step in a process group of its own, and end the whole group at its limit.

    Args:
        step: which.
        output: folder of its files.
        limit: seconds.
        rehearse: on the CPU.
    """
    path = output / f"{step.name}.json"
    path.unlink(missing_ok=True)
    command = [sys.executable, "-m", "bench.gpu.step", step.module, "--output", str(path)]
    command += ["--limit", str(limit), *(["--rehearse"] if rehearse else [])]
    here = [str(ROOT), str(ROOT / "kernels"), str(ROOT / "export"), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, here))}
    began = time.monotonic()
    with (output / f"{step.name}.log").open("w") as log:
        process = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )
        try:
            code: int | None = process.wait(limit)
        except subprocess.TimeoutExpired:
            code = None
        finally:
            _end(process)  # after Ctrl-C, too; and what a step left behind
    content = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return Result(step, _status(code, content), time.monotonic() - began, content)


def _status(code: int | None, content: dict[str, Any]) -> str:
    if code is None:
        return "timeout"
    if content.get("missing"):
        return "missing"
    if content.get("error"):
        return "failed"
    if code != 0:
        return f"crashed {signal.Signals(-code).name}" if code < 0 else "crashed"
    return "errors" if any(item["metric"] == "error" for item in content["figures"]) else "ok"


def _end(process: subprocess.Popen[Any]) -> None:
    """End a process group: kindly, then surely."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with suppress(subprocess.TimeoutExpired):
            process.wait(GRACE)


def run_day(steps: Iterable[Step], output: Path, *, total: float, rehearse: bool) -> list[Result]:
    """Run steps one after the other, print a line for each, and write the summary, also after Ctrl-C.

    Args:
        steps: in their order.
        output: folder; made where it is missing.
        total: seconds for all; a step gets what is left, if that is less than its own limit.
        rehearse: on the CPU, small.
    """
    output.mkdir(parents=True, exist_ok=True)
    results: list[Result] = []
    began = time.monotonic()
    try:
        for step in steps:
            left = total - (time.monotonic() - began)
            if left <= 0:
                results.append(Result(step, "not started", 0.0, {}))
            else:
                results.append(run_step(step, output, min(step.limit, left), rehearse=rehearse))
            print(results[-1], flush=True)
    finally:
        print(write_summary(results, output), flush=True)
    return results


def write_summary(results: Sequence[Result], output: Path) -> Path:
    """Write all figures as one CSV and return its path."""
    gpus = [result.content.get("facts", {}).get("device", "") for result in results]
    gpu = re.sub(r"[^a-z0-9]+", "_", next(filter(None, gpus), "unknown").lower()).strip("_")
    path = output / f"gpu_day_{gpu}.csv"
    facts: dict[str, Any] = next(
        (result.content["facts"] for result in results if "packages" in result.content.get("facts", {})), {}
    )
    packages = ", ".join(f"{name} {number}" for name, number in facts.get("packages", {}).items() if number)
    with path.open("w", newline="", encoding="utf-8") as file:
        file.write(f"# {time.strftime('%Y-%m-%d')}, {next(filter(None, gpus), 'unknown')}\n")
        file.write(f"# {packages}\n" if packages else "")
        table = csv.writer(file, lineterminator="\n")
        table.writerow(COLUMNS)
        for result in results:
            figures = result.content.get("figures", [])
            table.writerow((result.step.name, result.status, "", "", "seconds", f"{result.seconds:.1f}", _why(result)))
            for item in figures:
                value = item["value"]
                text = "" if value is None else f"{value:.6g}" if isinstance(value, float) else value
                words = (item["case"], item["variant"], item["metric"], text, item["note"])
                table.writerow((result.step.name, result.status, *words))
    return path


def _why(result: Result) -> str:
    return str(result.content.get("error", ""))


def _stop(*_: object) -> None:
    raise KeyboardInterrupt  # so that the step's processes end, and the summary is written


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; 0 where every step was ok."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.gpu_day", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names = [step.name for step in STEPS]
    parser.add_argument("--output", type=Path, required=True, help="folder of the results")
    parser.add_argument("--only", action="append", choices=names, help="run this step only; may be repeated")
    parser.add_argument("--skip", action="append", choices=names, default=[], help="omit this step; may be repeated")
    parser.add_argument("--total-limit", type=float, default=840, help="seconds for all steps (default %(default).0f)")
    parser.add_argument("--rehearse", action="store_true", help="run on the CPU with small sizes")
    given = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, _stop)
    chosen = [step for step in STEPS if step.name in (given.only or names) and step.name not in given.skip]
    results = run_day(chosen, given.output, total=given.total_limit, rehearse=given.rehearse)
    return 0 if all(result.status == "ok" for result in results) else 1


if __name__ == "__main__":
    sys.exit(main())
