"""Comparisons in rounds: A B C A B C …, so that whatever disturbs the machine disturbs all candidates alike.

The first run of each is not counted, because it allocates and may compile, unless it takes longer than the patience: a
slow candidate that had nothing left to compile runs once, and its n is 1. The rounds end early where a further one
would not fit into the budget.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from bench.candidates import Candidate, Work
from bench.common import ROOT


@dataclass
class Outcome:
    """What one candidate did.

    Attributes:
        candidate: who it was.
        seconds: of the timed runs.
        start_seconds: from the start of the process to the end of the first run.
        peak_mib: largest resident memory.
        facts: see :class:`bench.worker.Ready`; ``first_counts`` likewise.
        error: why it stopped, or nothing.
    """

    candidate: Candidate
    seconds: list[float] = field(default_factory=list)
    start_seconds: float | None = None
    peak_mib: float | None = None
    facts: dict[str, Any] = field(default_factory=dict)
    first_counts: bool = True
    error: str = ""


class Worker:
    """A candidate's process; see :mod:`bench.worker`."""

    def __init__(self, work: Work, log: Path) -> None:
        """Start it.

        Args:
            work: what it does.
            log: what it prints is appended to this file.
        """
        self.outcome = Outcome(work.candidate)
        self._began, self._log = time.perf_counter(), log.open("a")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "bench.worker"],
            cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log, text=True,
        )  # fmt: skip
        self._send(work.to_json())

    def run(self) -> float | None:
        """Run once and return the seconds; ``None`` after an error, which is in the outcome."""
        answer = self._ask("run")
        if answer is None:
            return None
        self.outcome.peak_mib, self.outcome.facts = answer["peak_mib"], answer["facts"]
        self.outcome.first_counts = answer["first_counts"]
        if self.outcome.start_seconds is None:
            self.outcome.start_seconds = time.perf_counter() - self._began
        return float(answer["seconds"])

    def save(self, path: Path) -> None:
        """Write the result of the last run."""
        self._ask(f"save {path}")

    def _ask(self, order: str) -> dict[str, Any] | None:
        if self.outcome.error:
            return None
        self._send(order)
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        answer: dict[str, Any] = (
            json.loads(line) if line else {"error": f"its process ended with {self._process.wait()}"}
        )
        if "error" in answer:
            self.outcome.error = answer["error"]
            return None
        return answer

    def _send(self, line: str) -> None:
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # it has ended: its answer says why
            self._process.stdin.write(f"{line}\n")
            self._process.stdin.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with suppress(BrokenPipeError):
            self._process.stdin.close()
        if exc[0] is not None:
            self._process.kill()
        self._process.wait()
        self._process.stdout.close()
        self._log.close()


def first_run(worker: Worker, patience: float) -> bool:
    """Run a candidate for the first time, and say whether it is quick enough for rounds.

    Args:
        worker: just started.
        patience: seconds; of a candidate whose first run takes longer, that run counts, if it can.
    """
    seconds = worker.run()
    slow = seconds is not None and seconds > patience and worker.outcome.first_counts
    if slow and seconds is not None:
        worker.outcome.seconds.append(seconds)
    return seconds is not None and not slow


def in_rounds(runs: Sequence[Callable[[], float | None]], rounds: int, budget: float) -> list[list[float]]:
    """Run A B C A B C ….

    Args:
        runs: each runs once and returns its seconds, or ``None`` where it failed: that one is left out from then on.
        rounds: how many.
        budget: seconds after which no round begins that would not end in time; the first always does.

    Returns:
        For each of ``runs`` the seconds of its runs.
    """
    found: list[list[float]] = [[] for _ in runs]
    failed: set[int] = set()
    began = time.perf_counter()
    for index in range(rounds):
        spent = time.perf_counter() - began
        if index and spent * (index + 1) / index > budget:
            break
        for which, run in enumerate(runs):
            if which in failed:
                continue
            seconds = run()
            if seconds is None:
                failed.add(which)
            else:
                found[which].append(seconds)
    return found
