"""Choose a backend by measurement. A choice from the cache is opened without torch, unless its engine needs it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from gankit_export.precisions import Precision

from gankit.backends import get
from gankit.backends.base import DYNAMIC, Engine, EngineSpec, Shapes
from gankit.backends.choice.cache import Choice, drop, look_up, store
from gankit.backends.choice.candidates import Candidate, candidates, parse_devices
from gankit.backends.choice.lines import flat_message, for_longer_jobs, out_of_time, refuse, speed
from gankit.backends.choice.parity import GATE_DB, Parity, parity_message
from gankit.backends.choice.question import LONG_JOB_SECONDS, Question
from gankit.backends.choice.several import select_several
from gankit.backends.choice.short_jobs import (
    most_pixels,
    soonest,
    soonest_first,
    torch_is_imported,
)
from gankit.errors import first_line
from gankit.options import EngineOptions

if TYPE_CHECKING:
    from gankit.backends.choice.benchmark import Benchmark, Measured
    from gankit.checkpoints import Loaded

BUDGET_SECONDS = 15.0  # no candidate starts after this; it covers an export, which several candidates share
INT8_GATE_DB = 38.0  # for who asked for int8; `auto` holds int8 against the gate of all others


@dataclass(frozen=True)
class Selection:
    """The chosen engine, and why it was chosen.

    Attributes:
        engine: the engine.
        parity: its parity with fp32, as measured in an earlier run if the choice is from the cache.
        summary: one line for the user.
        measured: measurements of this run; empty if the choice is from the cache.
        contrast: least contrast of the images that the engine may run; those below it need fp32. 0 if it may run all.
            See :class:`~gankit.backends.choice.parity.Verdict`.
        most_pixels: number of input pixels of the largest job for which this is the choice; see
            :mod:`gankit.backends.choice.short_jobs`.
    """

    engine: Engine
    parity: Parity | None
    summary: str
    measured: tuple[Measured, ...] = ()
    contrast: float = 0.0
    most_pixels: float = math.inf


def select(
    loaded: Loaded,
    options: EngineOptions | None = None,
    *,
    shapes: Shapes = DYNAMIC,
    job_pixels: int | None = None,
    whole_job: bool = False,
    notify: Callable[[str], None] | None = None,
    quantised: str = "",
) -> Selection:
    """Choose and load an engine.

    The candidates run on one tile of a real image and on synthetic images, or on a few samples. Those below 45 dB on
    any of them are rejected, and the fastest of the others is chosen. The choice is final: it is cached for the model,
    the machine, the versions and the question, and later calls measure nothing. Candidates for which the time runs out
    are left out, and a line names them. A backend that compiles for minutes is measured only if the job would take long
    with the fastest other one. A short job on a CPU takes the first engine that passes, or one that starts without
    torch, and the comparison waits for a longer one (:mod:`gankit.backends.choice.short_jobs`).

    A cached choice is dropped, and a line says so, if it is damaged, if its engine does not load, or if the exported
    file that its engine runs is not the one that was measured.

    Args:
        loaded: generator, facts and sha256.
        options: backend, precision, device and threads; ``None`` uses the defaults. If a precision fails the parity
            check, the next safer one is used (fp16 -> bf16 -> fp32) and a line is reported. The device ``"auto"`` is a
            GPU, or the CPU if there is no GPU or nothing runs on it. For several GPUs, see
            :func:`~gankit.backends.choice.several.select_several`.
        shapes: shapes for which the engine is made.
        job_pixels: number of input pixels of the whole job, if known.
        whole_job: whether the engine has nothing to do but this job, which may then be a short one.
        notify: called with each line to report to the user.
        quantised: sha256 of an int8 file of the generator in the cache; empty for none. The precision ``"int8"`` runs
            it if it reaches 38 dB. ``"auto"`` measures it after the others on a CPU without bf16, where it must pass
            the same parity check as they do, and be 1.25 times as fast.

    Raises:
        UsageError: If the backend or the device is unknown.
        BackendError: If no backend can run the generator. The message gives the reason for each.
        ParityError: If no candidate passes the parity check.
    """
    options = options or EngineOptions()
    notify = notify or (lambda line: None)
    chosen = parse_devices(options.device)
    if len(chosen) > 1:

        def one(options: EngineOptions) -> Selection:
            share = None if job_pixels is None else job_pixels // len(chosen)
            return select(loaded, options, shapes=shapes, job_pixels=share, notify=notify, quantised=quantised)

        return select_several(one, chosen, options, notify)
    options = replace(options, device=chosen[0])
    spec = EngineSpec(loaded.module, loaded.facts, shapes=shapes, threads=options.threads, notify=notify)
    spec = replace(spec, quantised=quantised)
    groups = candidates(spec, options)
    asked = options.backend, options.precision, options.device, options.threads, shapes.batch, shapes.tile
    key = (loaded.sha256, *asked, sorted(loaded.facts.options.items()), quantised)
    gate = INT8_GATE_DB if options.precision == "int8" else GATE_DB
    may_be_short = whole_job and options.backend == "auto" and groups[0][0].spec.device == "cpu"
    question = Question(spec, job_pixels, key, gate, may_be_short)
    known = look_up(key, notify)
    if may_be_short and (soon := _reopen_soon(question, known)) is not None:
        return soon
    final = known
    if known is not None and _has_slow_alternatives(question, known, groups):
        final = look_up(question.long_job_key, notify)
    if final is not None:
        if (selection := _reopen(question, final)) is not None:
            return selection
        drop(key)
        drop(question.long_job_key)
        known = None
    from gankit.backends.choice.benchmark import Benchmark

    benchmark = Benchmark(groups[0][0].spec, gate)
    found = _Found()
    for group in sorted(groups, key=lambda group: known is not None and group[0].spec.device != known.device):
        found = _measure(benchmark, question, group, known)
        if benchmark.best is not None:
            break
    # A model that generates has only one candidate under "auto", so there is no choice to report.
    chose = options.backend == "auto" and loaded.facts.task != "generate"
    return _conclude(benchmark, notify, found, gate, report_choice=chose)


def check(loaded: Loaded, options: EngineOptions) -> None:
    """Check that a backend supports the generator here, without loading an engine.

    Raises:
        UsageError, BackendError: See :func:`select`.
    """
    quantised = "still to be made" if options.precision == "int8" else ""
    spec = EngineSpec(loaded.module, loaded.facts, threads=options.threads, quantised=quantised)
    for device in parse_devices(options.device):
        candidates(spec, replace(options, device=device))


def _reopen(question: Question, choice: Choice) -> Selection | None:
    """Load the engine of a cached choice; ``None``, after a line to the user, if the choice no longer holds."""
    spec = replace(
        question.spec,
        precision=choice.precision,
        device=choice.device,
        kernels=choice.kernels,
        artefact=choice.artefact,
        quantised=choice.artefact if choice.quantised else "",
    )
    label = f"{choice.backend} {'int8' if choice.quantised else choice.precision}"
    name = f"the cached choice, {label},"
    parity = Parity(choice.psnr, choice.max_abs, choice.image)
    engine: Engine | None = None
    why = f"is below {question.gate:.0f} dB"
    if parity.passes(question.gate):
        try:
            engine = get(choice.backend).load(spec)
        except Exception as error:  # a missing package, a driver, a full memory
            why = f"did not load ({first_line(error)})"
    if engine is not None and engine.artefact != choice.artefact:
        engine.close()
        engine, why = None, "was measured with another exported file"
    if engine is None:
        if spec.notify is not None:
            spec.notify(f"{name} {why}; measuring again")
        return None
    line = f"{label}, {parity_message(parity)}{flat_message(choice.contrast)}"
    summary = f"{line}, from the cache of an earlier measurement"
    return Selection(engine, parity, summary, contrast=choice.contrast)


def _reopen_soon(question: Question, final: Choice | None) -> Selection | None:
    """Load the engine of the cached choice for short jobs; ``None`` if there is none, or the job is not short.

    Args:
        question: the question.
        final: the cached choice for other jobs.
    """
    soon = look_up(question.short_job_key, question.spec.notify)
    if soon is None or question.job_pixels is None:
        return None
    if final is not None and (torch_is_imported() or get(final.backend).start_rank is not None):
        return None  # it starts as soon
    most = most_pixels(soon, final)
    if question.job_pixels > most:
        return None
    selection = _reopen(question, soon)
    if selection is None:
        drop(question.short_job_key)
        return None
    return replace(selection, most_pixels=most)


@dataclass(frozen=True)
class _Found:
    """What was not measured, a line for each reason, and the largest job for which the choice is final."""

    omitted: tuple[str, ...] = ()
    most_pixels: float = math.inf


def _measure(benchmark: Benchmark, question: Question, group: Sequence[Candidate], known: Choice | None) -> _Found:
    """Benchmark the candidates of one device, and cache the choice.

    Args:
        benchmark: measures the candidates.
        question: the question under which to cache the choice.
        group: all candidates of the device.
        known: the cached choice for short jobs, if the job is long. Of the quick candidates, only this one then runs.
    """
    quick = [item for item in group if not item.backend.slow_start] or list(group)
    slow = [item for item in group if item not in quick]
    again = known is not None and known.device == group[0].spec.device
    if question.may_be_short:
        quick = soonest_first(quick)
    first = [_candidate(question, known)] if known and again else quick
    left = benchmark.run(first, budget=BUDGET_SECONDS, enough=question.is_short)
    if benchmark.best is None and again:
        left = benchmark.run(quick, budget=BUDGET_SECONDS)
    if left and benchmark.best is not None and question.is_short(benchmark.best[1].megapixels_per_second):
        short = _choice(benchmark.best[1])
        store(question.short_job_key, short)
        return _Found((for_longer_jobs([*left, *slow]),), most_pixels(short, None))
    omitted = (out_of_time(left, BUDGET_SECONDS),) if left else ()
    if benchmark.best is not None:
        store(question.key, _choice(benchmark.best[1]))
        if (soon := soonest(benchmark.measured, quick)) not in (None, benchmark.best[1]):
            store(question.short_job_key, _choice(soon))
    if not slow:
        return _Found(omitted)
    if benchmark.best is not None and not question.is_long(benchmark.best[1].megapixels_per_second):
        names = ", ".join(map(str, slow))
        reason = f"takes minutes to start, and is measured for jobs of over {LONG_JOB_SECONDS / 60:.0f} minutes only"
        return _Found((*omitted, f"not measured: {names}, which {reason}"))
    nothing_quick = benchmark.best is None
    benchmark.run(slow)
    if benchmark.best is not None:
        store(question.long_job_key, _choice(benchmark.best[1]))
        if nothing_quick:
            store(question.key, _choice(benchmark.best[1]))
    return _Found(omitted)


def _candidate(question: Question, known: Choice) -> Candidate:
    spec = replace(question.spec, device=known.device, precision=known.precision, kernels=known.kernels)
    spec = replace(spec, quantised=spec.quantised if known.quantised else "")
    return Candidate(get(known.backend), spec)


def _choice(best: Measured) -> Choice:
    assert best.parity is not None
    int8 = best.precision == "int8"
    precision: Precision = "fp32" if best.precision == "int8" else best.precision
    figures = best.parity.psnr, best.parity.max_abs, best.parity.image, best.megapixels_per_second
    return Choice(
        best.backend, precision, best.device, *figures, best.kernels, best.artefact, best.contrast, quantised=int8
    )


def _has_slow_alternatives(question: Question, known: Choice, groups: Sequence[Sequence[Candidate]]) -> bool:
    """Whether the job is so long that a backend with a slow start may be the better choice."""
    slow = [item for group in groups for item in group if item.backend.slow_start and item.spec.device == known.device]
    others = [item for item in slow if item.backend.name != known.backend]
    return bool(others) and question.is_long(known.megapixels_per_second)


def _conclude(
    benchmark: Benchmark, notify: Callable[[str], None], found: _Found, gate: float, *, report_choice: bool
) -> Selection:
    """Make a selection from the benchmark, and report it with what was compared and what was not.

    Raises:
        ParityError: If engines ran but none passed the parity check.
        BackendError: If no engine ran.
    """
    if benchmark.best is None:
        refuse(benchmark, gate, any(item.parity is not None for item in benchmark.measured))
    for line in benchmark.remarks:
        notify(line)
    engine, best = benchmark.best
    summary = f"{best}, {parity_message(best.parity)}{flat_message(best.contrast)}, {speed(best)} MP/s of input"
    others = [item for item in benchmark.measured if item is not best and not item.remark]
    if others:
        others.sort(key=lambda item: item.megapixels_per_second, reverse=True)
        summary = f"{summary}; slower: {', '.join(f'{item} {speed(item)}' for item in others)}"
    if report_choice:
        notify(f"chose {summary}")
        for line in found.omitted:
            notify(line)
    return Selection(engine, best.parity, summary, tuple(benchmark.measured), best.contrast, found.most_pixels)
