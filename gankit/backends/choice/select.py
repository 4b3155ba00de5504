"""Choose a backend by measurement."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NoReturn

from gankit.backends import get
from gankit.backends.base import DYNAMIC, Engine, EngineSpec, Shapes
from gankit.backends.choice.benchmark import Benchmark, Measured
from gankit.backends.choice.cache import Choice, drop, look_up, store
from gankit.backends.choice.candidates import Candidate, candidates, parse_device
from gankit.backends.choice.parity import GATE_DB, Parity
from gankit.backends.choice.probe import parity_message
from gankit.errors import BackendError, ParityError
from gankit.options import EngineOptions

if TYPE_CHECKING:
    from gankit.checkpoints import Loaded

BUDGET_SECONDS = 7.0  # limit for measuring; loading the last candidate may exceed it a little
LONG_JOB_SECONDS = 600.0  # jobs longer than this can repay a compilation of a minute or two


@dataclass(frozen=True)
class Selection:
    """The chosen engine, and why it was chosen.

    Attributes:
        engine: the engine.
        parity: its parity with fp32, as measured in an earlier run if the choice is from the cache.
        summary: one line for the user.
        measured: measurements of this run; empty if the choice is from the cache.
    """

    engine: Engine
    parity: Parity | None
    summary: str
    measured: tuple[Measured, ...] = ()


@dataclass(frozen=True)
class _Question:
    """The question that a choice answers, with its key in the cache."""

    spec: EngineSpec
    job_pixels: int | None
    key: tuple[Any, ...]

    @property
    def long_job_key(self) -> tuple[Any, ...]:
        """The key in the cache of the choice for a long job."""
        return (*self.key, "long job")

    def is_long(self, megapixels_per_second: float) -> bool:
        """Whether the job takes so long at this speed that a backend that compiles for minutes is worth trying."""
        return self.job_pixels is not None and self.job_pixels / 1e6 / megapixels_per_second > LONG_JOB_SECONDS


def select(
    loaded: Loaded,
    options: EngineOptions | None = None,
    *,
    shapes: Shapes = DYNAMIC,
    job_pixels: int | None = None,
    notify: Callable[[str], None] | None = None,
) -> Selection:
    """Choose and load an engine.

    The candidates run on one tile of a real image, or on a few samples. Those below 45 dB are rejected, and the fastest
    of the others is chosen. The choice is cached for the model, the machine, the versions and the question. If time
    runs out before all candidates have run, the next call measures the rest. A backend that compiles for minutes is
    measured only if the job would take long with the fastest other one.

    Args:
        loaded: generator, facts and sha256.
        options: backend, precision, device and threads; ``None`` uses the defaults. If a precision fails the parity
            check, the next safer one is used (fp16 -> bf16 -> fp32) and a line is reported. The device ``"auto"`` is a
            GPU, or the CPU if there is no GPU or nothing runs on it.
        shapes: shapes for which the engine is made.
        job_pixels: number of input pixels of the whole job, if known.
        notify: called with each line to report to the user.

    Raises:
        UsageError: If the backend or the device is unknown.
        BackendError: If no backend can run the generator. The message gives the reason for each.
        ParityError: If no candidate passes the parity check.
    """
    options = options or EngineOptions()
    options = replace(options, device=parse_device(options.device))
    spec = EngineSpec(loaded.generator, loaded.facts, shapes=shapes, threads=options.threads)
    groups = candidates(spec, options)
    asked = options.backend, options.precision, options.device, options.threads, shapes.batch, shapes.tile
    key = (loaded.sha256, *asked, sorted(loaded.facts.options.items()))
    question = _Question(spec, job_pixels, key)
    known = look_up(key)
    final = look_up(question.long_job_key) if known and _has_slow_alternatives(question, known, groups) else known
    if final is not None and not final.unmeasured:
        try:
            return _reopen(question, final)
        except Exception:  # a missing package, a driver, a full memory: measure again
            drop(key)
            drop(question.long_job_key)
            known = None
    benchmark = Benchmark(groups[0][0].spec)
    for group in sorted(groups, key=lambda group: known is not None and group[0].spec.device != known.device):
        _measure(benchmark, question, group, known)
        if benchmark.best is not None:
            break
    # A model that generates has only one candidate under "auto", so there is no choice to report.
    chose = options.backend == "auto" and loaded.facts.task != "generate"
    return _conclude(benchmark, notify or (lambda line: None), report_choice=chose)


def check(loaded: Loaded, options: EngineOptions) -> None:
    """Check that a backend supports the generator here, without loading an engine.

    Raises:
        UsageError, BackendError: See :func:`select`.
    """
    spec = EngineSpec(loaded.generator, loaded.facts, threads=options.threads)
    candidates(spec, replace(options, device=parse_device(options.device)))


def _reopen(question: _Question, choice: Choice) -> Selection:
    """Load the engine of a cached choice."""
    spec = replace(question.spec, precision=choice.precision, device=choice.device, kernels=choice.kernels)
    engine = get(choice.backend).load(spec)
    parity = Parity(choice.psnr, choice.max_abs)
    line = f"{choice.backend} {choice.precision}, {parity_message(parity)}"
    return Selection(engine, parity, f"{line}, from the cache of an earlier measurement")


def _measure(benchmark: Benchmark, question: _Question, group: Sequence[Candidate], known: Choice | None) -> None:
    """Benchmark the candidates of one device, and cache the choice.

    Args:
        benchmark: measures the candidates.
        question: the question under which to cache the choice.
        group: all candidates of the device.
        known: an earlier choice that is not final. Only this one and the candidates that were not measured then run.
    """
    quick = [item for item in group if not item.backend.slow_start] or list(group)
    slow = [item for item in group if item not in quick]
    first = _still_to_run(question, known, group[0].spec.device) or quick
    # The earlier choice and at least one more candidate always run, so that measuring ends after a few calls.
    left = benchmark.run(first, budget=BUDGET_SECONDS, least=1 if known is None else 2)
    if benchmark.best is None and known is not None:
        left = benchmark.run(quick, budget=BUDGET_SECONDS)
    if benchmark.best is not None:
        store(question.key, _choice(benchmark.best[1], left))
    if slow and (benchmark.best is None or question.is_long(benchmark.best[1].megapixels_per_second)):
        nothing_quick = benchmark.best is None
        benchmark.run(slow)
        if benchmark.best is not None:
            store(question.long_job_key, _choice(benchmark.best[1]))
        if benchmark.best is not None and nothing_quick:
            store(question.key, _choice(benchmark.best[1]))


def _still_to_run(question: _Question, known: Choice | None, device: str) -> list[Candidate]:
    """Return an earlier choice that is not final, and the candidates that were not measured then."""
    if known is None or known.device != device:
        return []
    entries = [(known.backend, known.precision, known.kernels), *known.unmeasured]
    spec = replace(question.spec, device=device)
    return [
        Candidate(get(name), replace(spec, precision=precision, kernels=kernels))
        for name, precision, kernels in entries
    ]


def _choice(best: Measured, left: Sequence[Candidate] = ()) -> Choice:
    assert best.parity is not None
    figures = best.parity.psnr, best.parity.max_abs, best.megapixels_per_second
    rest = tuple((item.backend.name, item.spec.precision, item.spec.kernels) for item in left)
    return Choice(best.backend, best.precision, best.device, *figures, rest, best.kernels)


def _has_slow_alternatives(question: _Question, known: Choice, groups: Sequence[Sequence[Candidate]]) -> bool:
    """Whether the job is so long that a backend with a slow start may be the better choice."""
    slow = [item for group in groups for item in group if item.backend.slow_start and item.spec.device == known.device]
    others = [item for item in slow if item.backend.name != known.backend]
    return bool(others) and question.is_long(known.megapixels_per_second)


def _conclude(benchmark: Benchmark, notify: Callable[[str], None], *, report_choice: bool) -> Selection:
    """Make a selection from the benchmark, and report it.

    Raises:
        ParityError: If engines ran but none passed the parity check.
        BackendError: If no engine ran.
    """
    if benchmark.best is None:
        _refuse(benchmark, any(item.parity is not None for item in benchmark.measured))
    for line in benchmark.remarks:
        notify(line)
    engine, best = benchmark.best
    summary = f"{best}, {parity_message(best.parity)}, {best.megapixels_per_second:.3f} MP/s in"
    others = [item for item in benchmark.measured if item is not best and not item.remark]
    if others:
        speeds = ", ".join(f"{item} {item.megapixels_per_second:.3f}" for item in others)
        summary = f"{summary} (fastest of {1 + len(others)}: {speeds})"
    if report_choice:
        notify(f"chose {summary}")
    return Selection(engine, best.parity, summary, tuple(benchmark.measured))


def _refuse(benchmark: Benchmark, ran: bool) -> NoReturn:
    out = "; ".join(benchmark.remarks)
    if ran:
        raise ParityError(f"no engine reaches {GATE_DB:.0f} dB against fp32 on {benchmark.title}: {out}")
    raise BackendError(f"no backend can run this model: {out}")
