"""The process of one engine in a benchmark, as its parent sees it. Imports no torch."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import IO, Any, Self

from gankit.pipeline.benchmark_worker import Job

MODULE = "gankit.pipeline.benchmark_worker"


@dataclass
class Worker:
    """The process of one job, and what it has answered.

    Attributes:
        job: what it runs.
        facts: its first answer.
        seconds: of its timed runs.
        start_seconds: from the start of the process to the end of the first run.
        peak: largest resident memory in bytes.
        gpu: largest memory of torch's allocator on a GPU in bytes.
        error: why it stopped; empty if it did not.
    """

    job: Job
    facts: Mapping[str, Any] = field(default_factory=dict)
    seconds: list[float] = field(default_factory=list)
    start_seconds: float | None = None
    peak: int | None = None
    gpu: int | None = None
    error: str = ""

    def __post_init__(self) -> None:
        self._log: IO[str] = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")  # noqa: SIM115
        # -P keeps modules in the current folder from taking the place of installed ones.
        command = [sys.executable, "-P", "-m", MODULE]
        self._began = time.perf_counter()
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log, text=True, encoding="utf-8"
        )

    def start(self) -> None:
        """Wait for the first run."""
        answer = self._ask(self.job.to_json())
        if answer is not None:
            self.start_seconds = time.perf_counter() - self._began
            self.facts = answer

    def run(self) -> None:
        """Run once."""
        answer = self._ask("run")
        if answer is not None:
            self.seconds.append(answer["seconds"])
            self.peak, self.gpu = answer["peak"], answer["gpu"]

    def parity(self) -> dict[str, Any]:
        """Measure the parity; empty after an error."""
        return self._ask("parity") or {}

    def close(self) -> None:
        """End the process."""
        for stream in (self._process.stdin, self._process.stdout):
            with suppress(OSError):
                if stream is not None:
                    stream.close()
        self._process.kill()
        self._process.wait()
        self._log.close()

    def _ask(self, line: str) -> dict[str, Any] | None:
        if self.error:
            return None
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with suppress(BrokenPipeError):  # it has ended, and the missing answer says so
            self._process.stdin.write(f"{line}\n")
            self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            self.error = self._last_words(self._process.wait())
            return None
        found: dict[str, Any] = json.loads(answer)
        if "error" in found:
            self.error = found["error"]
            return None
        return found

    def _last_words(self, status: int) -> str:
        """Return why the process ended without an answer."""
        self._log.seek(0)
        lines = [line.strip() for line in self._log.read().splitlines() if line.strip()]
        ended = f"its process was killed by signal {-status}" if status < 0 else f"its process ended with {status}"
        return f"{ended}: {lines[-1][:200]}" if lines else ended

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
