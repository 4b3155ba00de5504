"""The measured choice between backends."""

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

BUDGET_SECONDS = 7.0  # for measuring; loading the last candidate may take it a little further
LONG_JOB_SECONDS = 600.0  # from here on a compilation of a minute or two can be repaid


@dataclass(frozen=True)
class Selection:
    """The engine to run, and why this one.

    Attributes:
        engine: ready.
        parity: of its images with the fp32 ones; of an earlier run where the choice came from the cache.
        summary: one line for the user.
        measured: the candidates of this run; empty where the choice came from the cache.
    """

    engine: Engine
    parity: Parity | None
    summary: str
    measured: tuple[Measured, ...] = ()


@dataclass(frozen=True)
class _Question:
    """What a choice is for."""

    spec: EngineSpec
    job_pixels: int | None
    key: tuple[Any, ...]

    @property
    def long_job_key(self) -> tuple[Any, ...]:
        """The words under which the choice for a long job is kept."""
        return (*self.key, "long job")

    def is_long(self, megapixels_per_second: float) -> bool:
        """Whether the job takes so long at that speed that a backend that compiles for minutes is worth a try."""
        return self.job_pixels is not None and self.job_pixels / 1e6 / megapixels_per_second > LONG_JOB_SECONDS


def select(
    loaded: Loaded,
    options: EngineOptions | None = None,
    *,
    shapes: Shapes = DYNAMIC,
    job_pixels: int | None = None,
    notify: Callable[[str], None] | None = None,
) -> Selection:
    """Find the engine.

    The candidates run on one tile of a real image, or on a few samples; those below 45 dB are out. The fastest stays,
    and the choice is cached per model, machine, versions and question. Where the time was up before all had run, the
    next call measures the rest. A backend that compiles for minutes enters only where the job is long, at the speed of
    the best other one.

    Args:
        loaded: generator, facts, sha256.
        options: backend, precision, device and threads; ``None`` for the defaults. A precision that fails the parity
            check is stepped up (fp16 -> bf16 -> fp32), and a line says so. With the device ``"auto"`` a GPU is taken,
            and the CPU where there is none or nothing runs on it.
        shapes: that the engine is made for.
        job_pixels: input pixels of the whole job, if known.
        notify: called with lines for the user.

    Raises:
        UsageError: an unknown backend or device.
        BackendError: no backend can run this; the line says why for each.
        ParityError: nothing passes the parity check.
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
        except Exception:  # a package went away without its version showing, a driver, a full memory: measured again
            drop(key)
            drop(question.long_job_key)
            known = None
    benchmark = Benchmark(groups[0][0].spec)
    for group in sorted(groups, key=lambda group: known is not None and group[0].spec.device != known.device):
        _measure(benchmark, question, group, known)
        if benchmark.best is not None:
            break
    # A model that generates has no choice under "auto": there is nothing to say.
    chose = options.backend == "auto" and loaded.facts.task != "generate"
    return _conclude(benchmark, notify or (lambda line: None), report_choice=chose)


def check(loaded: Loaded, options: EngineOptions) -> None:
    """Refuse what no backend supports here, without loading an engine.

    Raises:
        UsageError, BackendError: as :func:`select`.
    """
    spec = EngineSpec(loaded.generator, loaded.facts, threads=options.threads)
    candidates(spec, replace(options, device=parse_device(options.device)))


def _reopen(question: _Question, choice: Choice) -> Selection:
    """The engine of an earlier choice."""
    spec = replace(question.spec, precision=choice.precision, device=choice.device, kernels=choice.kernels)
    engine = get(choice.backend).load(spec)
    parity = Parity(choice.psnr, choice.max_abs)
    line = f"{choice.backend} {choice.precision}, {parity_message(parity)}"
    return Selection(engine, parity, f"{line}, from the cache of an earlier measurement")


def _measure(benchmark: Benchmark, question: _Question, group: Sequence[Candidate], known: Choice | None) -> None:
    """Benchmark the candidates of one device, and cache what comes of it.

    Args:
        benchmark: takes them.
        question: what to cache it for.
        group: all of the device.
        known: an earlier choice; it and the candidates that it could not be compared with run, and no others.
    """
    quick = [item for item in group if not item.backend.slow_start] or list(group)
    slow = [item for item in group if item not in quick]
    first = _still_to_run(question, known, group[0].spec.device) or quick
    # The earlier choice and one more run in any case, so that the measuring comes to an end.
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
    """An earlier choice that is not final, and those that it has still to be compared with."""
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
    """Whether the job is so long that another choice may hold for it."""
    slow = [item for group in groups for item in group if item.backend.slow_start and item.spec.device == known.device]
    others = [item for item in slow if item.backend.name != known.backend]
    return bool(others) and question.is_long(known.megapixels_per_second)


def _conclude(benchmark: Benchmark, notify: Callable[[str], None], *, report_choice: bool) -> Selection:
    """Turn the benchmark into a selection, and report it.

    Raises:
        ParityError: engines ran, and none passes the gate.
        BackendError: no engine ran.
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
    raise BackendError(f"no backend can run this: {out}")
