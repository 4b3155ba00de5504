"""Candidates measured side by side on the same input, with the parity check before the clock."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable
from dataclasses import dataclass

from torch import Tensor

from gankit.backends.base import Engine, EngineSpec, Precision
from gankit.backends.choice.candidates import Candidate
from gankit.backends.choice.parity import GATE_DB, Parity
from gankit.backends.choice.probe import Probe, parity_message

_MOST_RUNS, _ENOUGH_SECONDS = 10, 0.3  # of one engine; three runs are timed in any case


@dataclass(frozen=True)
class Measured:
    """One candidate.

    Attributes:
        backend: its name.
        precision: what it ran in.
        device: where it ran.
        megapixels_per_second: input pixels; 0 where it is out.
        parity: with fp32; ``None`` where it did not run.
        remark: why it is out, or nothing.
        kernels: whether it was with gankit's own kernels where there are some.
        label: as the user reads it.
    """

    backend: str
    precision: Precision
    device: str
    megapixels_per_second: float
    parity: Parity | None
    remark: str = ""
    kernels: bool = True
    label: str = ""

    def __str__(self) -> str:
        return self.label or f"{self.backend} {self.precision}"


class Benchmark:
    """Measures candidates; the engine of the fastest that passes the parity check stays open.

    Args:
        spec: generator, facts, and the first device that will run.

    Attributes:
        best: engine and figures of the fastest so far, or ``None``.
        measured: all that were tried, in order.
        remarks: a line for each candidate that is out.
        title: what they are measured on, in words.
    """

    def __init__(self, spec: EngineSpec) -> None:
        self.best: tuple[Engine, Measured] | None = None
        self.measured: list[Measured] = []
        self.remarks: list[str] = []
        self._began = time.perf_counter()
        self._probe = Probe.of(spec)
        self.title = self._probe.title

    def run(self, candidates: Iterable[Candidate], *, budget: float = math.inf, least: int = 1) -> list[Candidate]:
        """Measure candidates; one that fails in a narrow precision is tried in the next safer one.

        Args:
            candidates: in the order to try them.
            budget: seconds since the benchmark began after which no further one is tried.
            least: how many are tried whatever the time.

        Returns:
            Those for which there was no time.
        """
        queue, left = list(candidates), []
        while queue:
            candidate = queue.pop(0)
            late = time.perf_counter() - self._began > budget
            if late and self.best is not None and len(self.measured) >= least:
                left.append(candidate)
                continue
            result, engine = self._measure(candidate)
            self.measured.append(result)
            if engine is not None:
                self._keep(engine, result)
                continue
            plain = candidate.without_kernels if result.parity is None else None
            safer = plain or candidate.safer
            instead = "torch's kernels" if plain else safer.spec.precision if safer else ""
            self.remarks.append(f"{candidate} is out: {result.remark}{f': {instead} instead' if instead else ''}")
            if safer is not None and str(safer) not in map(str, queue):
                queue.insert(0, safer)
        return left

    def _keep(self, engine: Engine, result: Measured) -> None:
        if self.best is not None and result.megapixels_per_second <= self.best[1].megapixels_per_second:
            engine.close()
            return
        if self.best is not None:
            self.best[0].close()
        self.best = engine, result

    def _measure(self, candidate: Candidate) -> tuple[Measured, Engine | None]:
        """Load, check, time; the engine is ``None`` if the candidate is out, for whatever reason."""
        spec = candidate.spec
        what = candidate.backend.name, spec.precision, spec.device
        engine, parity = None, None
        try:
            engine = candidate.backend.load(spec)
            parity, seconds = self._check(engine)
        except Exception as error:  # compilers, runtimes and drivers raise what they like; the others can still win
            remark = first_line(error)
        else:
            if parity.passes():
                speed = self._probe.megapixels / seconds
                return Measured(*what, speed, parity, "", spec.kernels, candidate.label), engine
            remark = f"{parity_message(parity)}, below {GATE_DB:.0f} dB"
        if engine is not None:
            engine.close()
        return Measured(*what, 0.0, parity, remark, spec.kernels, candidate.label), None

    def _check(self, engine: Engine) -> tuple[Parity, float]:
        """Parity and seconds for the input; one timed run is enough for an engine that is far behind the best."""
        parity = self._probe.parity(engine)
        if not parity.passes():
            return parity, math.inf
        inputs = self._probe.timed_inputs
        result, seconds = _timed(engine, inputs)
        if not (through_bytes := self._probe.parity_of(result)).passes():
            return through_bytes, math.inf  # images come as bytes: that way has to be right, too
        to_beat = self.best[1].megapixels_per_second if self.best else 0.0
        spent, runs, pixels = seconds, 1, self._probe.megapixels
        while (runs < 2 and pixels / seconds > to_beat / 8) or (  # one run that was disturbed does not decide
            pixels / seconds > to_beat / 2  # else it cannot win
            and (runs < 3 or (runs < _MOST_RUNS and spent < _ENOUGH_SECONDS))
        ):
            again = _timed(engine, inputs)[1]
            seconds, spent, runs = min(seconds, again), spent + again, runs + 1
        return parity, seconds


def first_line(error: BaseException) -> str:
    """What an error says, in one line of bounded length; its kind where it says nothing."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0][:300] if lines else type(error).__name__


def _timed(engine: Engine, inputs: tuple[Tensor, ...]) -> tuple[Tensor, float]:
    began = time.perf_counter()
    result = engine.run(*inputs)
    return result, time.perf_counter() - began
