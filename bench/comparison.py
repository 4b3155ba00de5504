"""One comparison: its candidates in rounds, their images beside the true ones, their rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bench.candidates import Work
from bench.common import Row, spread
from bench.rounds import Outcome, Worker, first_run, in_rounds

NAN = float("nan")


@dataclass(frozen=True)
class Setting:
    """How long a comparison may take.

    Attributes:
        rounds: timed runs of each candidate.
        patience: seconds; a candidate whose first run takes longer runs once.
        budget: seconds for the rounds.
    """

    rounds: int
    patience: float
    budget: float


@dataclass(frozen=True)
class Task:
    """What the candidates do, for the table.

    Attributes:
        suite: title of their rows.
        model: the generator's name.
        size: of the input in words.
        megapixels: of one image.
        images: in one run.
        gflop: arithmetic of one image.
    """

    suite: str
    model: str
    size: str
    megapixels: float
    images: int
    gflop: float


def compare(
    benchmark: Any, works: Sequence[Work], task: Task, setting: Setting, parity: Callable[[Path, int], float], log: Path
) -> list[Row]:
    """Run the candidates and return a row for each.

    Args:
        benchmark: pytest-benchmark's fixture; it times the rounds as a whole.
        works: what each candidate does.
        task: for the table.
        setting: how long it may take.
        parity: takes the path that a candidate's result was saved to (unless it has a folder) and its index.
        log: folder for what the candidates print.
    """
    with ExitStack() as stack:
        workers: list[Worker] = []
        quick: list[Worker] = []
        for number, work in enumerate(works):  # one starts after the other, so that none disturbs another's start
            worker = stack.enter_context(Worker(work, log / f"{number}.log"))
            workers.append(worker)
            quick += [worker] if first_run(worker, setting.patience) else []
            worker.save(log / f"{number}.npy")
        times = benchmark.pedantic(
            in_rounds, args=([worker.run for worker in quick], setting.rounds, setting.budget), rounds=1
        )
        for worker, seconds in zip(quick, times, strict=True):
            worker.outcome.seconds.extend(seconds)
        outcomes = [worker.outcome for worker in workers]
    return [_row(outcome, task, parity, log / f"{n}.npy", n) for n, outcome in enumerate(outcomes)]


def _row(outcome: Outcome, task: Task, parity: Callable[[Path, int], float], saved: Path, number: int) -> Row:
    facts, candidate = outcome.facts, outcome.candidate
    timed = bool(outcome.seconds)
    label = candidate.label
    if candidate.backend == "auto" and candidate.kind == "gankit" and "backend" in facts:
        label = f"{label}: {facts['backend']}"
    remark = f"failed: {outcome.error}" if outcome.error else facts.get("remark", "")
    return Row(
        suite=task.suite,
        label=label,
        milliseconds=float(np.median(outcome.seconds)) * 1e3 / task.images if timed else NAN,
        megapixels=task.megapixels,
        parity_db=parity(saved, number) if timed else None,
        remark=remark,
        precision=facts.get("precision", candidate.precision if candidate.kind == "gankit" else ""),
        device=facts.get("device", candidate.device if candidate.kind == "gankit" else ""),
        threads=facts.get("threads"),
        model=task.model,
        size=task.size,
        rounds=len(outcome.seconds) or None,
        spread=spread(outcome.seconds),
        peak_mib=outcome.peak_mib,
        start_seconds=None if candidate.kind == "command" else outcome.start_seconds,
        gflop=task.gflop,
    )


def failures(rows: Sequence[Row]) -> list[str]:
    """A line for each row that has no figure."""
    return [f"{row.label} {row.precision}: {row.remark}" for row in rows if np.isnan(row.milliseconds)]
