"""Measure candidates on the same input. The parity check comes before the timing."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from gankit_export.precisions import EnginePrecision
from torch import Tensor

from gankit.backends.base import Engine, EngineSpec
from gankit.backends.calls import check_result
from gankit.backends.choice.candidates import Candidate
from gankit.backends.choice.parity import GATE_DB, Parity, Verdict, parity_message
from gankit.backends.choice.probe import Probe
from gankit.backends.cpu.threads import default_threads
from gankit.errors import first_line

_MOST_RUNS, _ENOUGH_SECONDS = 10, 0.3  # limits for one engine; at least three runs are timed
_WARM_UPS = 4  # on a GPU: kernels compile, cuDNN searches, and the shape comes often enough to be recorded as a graph
_LONG_SECONDS = 2.0  # at least two, if they take so long
INT8_MARGIN = 1.25
"""How many times as fast as an exact engine an int8 one must be, because it costs quality."""
FAR_BEHIND = 4  # an engine whose first timed run takes over so many times as long as the best one's is out


@dataclass(frozen=True)
class Measured:
    """The measurement of one candidate.

    Attributes:
        backend: name of the backend.
        precision: precision in which it ran.
        device: device on which it ran.
        megapixels_per_second: speed in input megapixels per second; 0 if the candidate was rejected.
        parity: worst parity with fp32 of all inputs, or that on the real image if the candidate is far behind; ``None``
            if it did not run.
        remark: why the candidate was rejected; empty if it was not.
        kernels: whether it could use gankit's own kernels.
        label: name for the user.
        contrast: least contrast of the images that it may run; see :class:`~gankit.backends.choice.parity.Verdict`.
        artefact: sha256 of the exported file that it ran; empty if it ran none.
    """

    backend: str
    precision: EnginePrecision
    device: str
    megapixels_per_second: float
    parity: Parity | None
    remark: str = ""
    kernels: bool = True
    label: str = ""
    contrast: float = 0.0
    artefact: str = ""

    def __str__(self) -> str:
        return self.label or f"{self.backend} {self.precision}"


class Benchmark:
    """Measures candidates. The engine of the fastest one that passes the parity check stays open.

    An engine runs the real image, and is timed once on it; on a GPU, after calls that compile its kernels. If it
    takes more than :data:`FAR_BEHIND` times as long as the best one so far, it cannot win and runs no more. Otherwise
    it runs the synthetic images and is timed again.

    Args:
        spec: generator, facts and first device of the candidates.
        gate: least parity in dB.

    Attributes:
        best: engine and measurement of the fastest candidate so far, or ``None``.
        measured: measurements of all candidates, in order.
        remarks: one line for each rejected candidate.
        title: description of the input.
    """

    def __init__(self, spec: EngineSpec, gate: float = GATE_DB) -> None:
        self.best: tuple[Engine, Measured] | None = None
        self.measured: list[Measured] = []
        self.remarks: list[str] = []
        self._threads = spec.threads or default_threads()
        self._began, self._began_work = time.perf_counter(), time.process_time()
        self._gate = gate
        self._probe = replace(Probe.of(spec), gate=gate)
        if spec.device_type == "cuda":  # the first use of a GPU takes seconds, which say nothing of the candidates
            self._began, self._began_work = time.perf_counter(), time.process_time()
        self.title = self._probe.title

    def run(
        self,
        candidates: Iterable[Candidate],
        *,
        budget: float = math.inf,
        enough: Callable[[float], bool] = lambda speed: False,
    ) -> list[Candidate]:
        """Measure candidates. One that fails in a narrow precision is tried again in the next safer one.

        Args:
            candidates: the candidates in the order in which to try them.
            budget: seconds since the start of the benchmark after which no further candidate is tried, unless none has
                passed so far. While other programs keep the processor busy, fewer seconds count.
            enough: whether no further candidate need be tried, for the speed of the best one so far in input
                megapixels per second.

        Returns:
            The candidates that were not tried.
        """
        queue, left = list(candidates), []
        while queue:
            candidate = queue.pop(0)
            best = self.best and self.best[1].megapixels_per_second
            if best is not None and (self._elapsed() > budget or enough(best)):
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
            failure = "did not run" if result.parity is None else "failed the parity check"
            using = f"; using {instead} instead" if instead else ""
            self.remarks.append(f"{candidate} {failure}: {result.remark}{using}")
            if safer is not None and str(safer) not in map(str, queue):
                queue.insert(0, safer)
        return left

    def _elapsed(self) -> float:
        """Return the seconds since the start, as on an idle machine.

        The choice is final, so that a busy hour must not leave out candidates. The processor time of this process, by
        thread, does not depend on other programs; where most of the work has one thread or a GPU, it is less strict.
        """
        return min(time.perf_counter() - self._began, (time.process_time() - self._began_work) / self._threads)

    def _keep(self, engine: Engine, result: Measured) -> None:
        margin = INT8_MARGIN if result.precision == "int8" and self.best and self.best[1].precision != "int8" else 1.0
        if self.best is not None and result.megapixels_per_second <= margin * self.best[1].megapixels_per_second:
            engine.close()
            return
        if self.best is not None:
            self.best[0].close()
        self.best = engine, result

    def _measure(self, candidate: Candidate) -> tuple[Measured, Engine | None]:
        """Load, check and time a candidate. The engine is ``None`` if the candidate is rejected for any reason."""
        spec = candidate.spec
        what = candidate.backend.name, candidate.precision, spec.device
        engine, parity = None, None
        try:
            engine = candidate.backend.load(spec)
            verdict, seconds = self._check(engine)
            parity = verdict.parity
        except Exception as error:  # compilers, runtimes and drivers raise anything; go on with the others
            remark = first_line(error)
        else:
            if parity.passes(self._gate):
                measured = Measured(
                    *what,
                    self._probe.megapixels / seconds,
                    parity,
                    kernels=spec.kernels,
                    label=candidate.label,
                    contrast=verdict.contrast,
                    artefact=engine.artefact,
                )
                return measured, engine
            remark = f"{parity_message(parity)}, below {self._gate:.0f} dB"
        if engine is not None:
            engine.close()
        return Measured(*what, 0.0, parity, remark, spec.kernels, candidate.label), None

    def _check(self, engine: Engine) -> tuple[Verdict, float]:
        """Return which images the engine may run and the seconds per run."""
        parity = self._probe.parity_on_timed(engine)
        if not parity.passes(self._gate):
            return Verdict(parity), math.inf
        inputs = self._probe.timed_inputs
        if not engine.device.startswith("cpu"):
            for _ in range(_WARM_UPS):
                engine.run(*inputs)
        result, seconds = _timed(engine, inputs)
        check_result(engine, inputs, result, self._probe.timed.wanted.shape)
        if not (through_bytes := self._probe.parity_of(result)).passes(self._gate):
            return Verdict(through_bytes), math.inf  # images are bytes, whose conversion must be right as well
        to_beat = self.best[1].megapixels_per_second if self.best else 0.0
        spent, runs, pixels = seconds, 1, self._probe.megapixels
        if pixels / seconds < to_beat / FAR_BEHIND:
            return Verdict(parity), seconds
        verdict = self._probe.verdict(engine, parity)
        if not verdict.parity.passes(self._gate):
            return verdict, math.inf
        while runs < 2 or (  # a single disturbed run must not decide
            pixels / seconds > to_beat / 2  # otherwise it cannot become the best
            and ((runs < 3 and spent < _LONG_SECONDS) or (runs < _MOST_RUNS and spent < _ENOUGH_SECONDS))
        ):
            again = _timed(engine, inputs)[1]
            seconds, spent, runs = min(seconds, again), spent + again, runs + 1
        return verdict, seconds


def _timed(engine: Engine, inputs: tuple[Tensor, ...]) -> tuple[Tensor, float]:
    began = time.perf_counter()
    result = engine.run(*inputs)
    return result, time.perf_counter() - began
