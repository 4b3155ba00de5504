"""Measure every engine that can run a model here, in rounds (A B C A B C …): what disturbs the machine disturbs all.

Each engine has a process of its own; see :mod:`gankit.pipeline.benchmark_worker`. A convolution of the best shape runs
in the same rounds, and its rate is the ceiling to which the engines are compared. Importing this module imports no
torch.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gankit_export.precisions import Precision

from gankit import backends
from gankit.errors import BackendError, UsageError
from gankit.memory import import_torch
from gankit.models.facts import Direction
from gankit.pipeline.benchmark_process import Worker
from gankit.pipeline.benchmark_rows import Row
from gankit.pipeline.benchmark_worker import Job
from gankit.pipeline.source import ModelSource

if TYPE_CHECKING:
    from gankit.backends.base import EngineSpec
    from gankit.checkpoints import Loaded

Notify = Callable[[str], None]
DEFAULT_SIZES = ((256, 256),)
_SAMPLES = 64


@dataclass(frozen=True)
class BenchmarkOptions:
    """What to measure, and for how long.

    Attributes:
        backends: names of backends; empty for all that can run and do not compile for minutes.
        precisions: precisions; empty for all that a backend offers, without those that the processor only emulates.
        device: ``"cpu"``, ``"cuda"``, ``"cuda:1"``, …, or ``"auto"`` for a GPU if there is one.
        sizes: heights and widths of the input in pixels. They have no meaning for a model that generates.
        batch: number of images or samples of one run; ``None`` for 1 image or 64 samples.
        tile: side of a tile in input pixels; ``None`` lets the pipeline choose.
        threads: number of CPU threads; ``None`` uses one per physical core.
        rounds: number of timed runs of each engine.
        seconds: time for the rounds of one size. A round that would not end in time does not begin, except the first.

    Raises:
        UsageError: If a number is less than 1.
    """

    backends: tuple[str, ...] = ()
    precisions: tuple[Precision, ...] = ()
    device: str = "auto"
    sizes: tuple[tuple[int, int], ...] = DEFAULT_SIZES
    batch: int | None = None
    tile: int | None = None
    threads: int | None = None
    rounds: int = 10
    seconds: float = 60.0

    def __post_init__(self) -> None:
        numbers = {"batch": self.batch, "tile": self.tile, "threads": self.threads, "rounds": self.rounds}
        smallest = min((side for size in self.sizes for side in size), default=1)
        for name, value in {**numbers, "a side of a size": smallest}.items():
            if value is not None and value < 1:
                raise UsageError(f"{name} must be a whole number above 0, not {value!r}")
        if not self.sizes:
            raise UsageError("sizes must have at least one height and width")


@dataclass(frozen=True)
class Measurements:
    """The result of a benchmark.

    Attributes:
        rows: the engines, size after size, in the order in which they ran.
        omitted: a line for each backend that was not measured, with the reason.
        machine: facts of the machine.
        versions: versions of the packages on which the figures depend.
    """

    rows: tuple[Row, ...]
    omitted: tuple[str, ...]
    machine: Mapping[str, Any]
    versions: Mapping[str, str | None]


def measure(
    model: str,
    options: BenchmarkOptions,
    *,
    direction: Direction | None = None,
    model_options: Mapping[str, Any] | None = None,
    notify: Notify | None = None,
) -> Measurements:
    """Measure the engines of a model.

    Args:
        model: name of a model, or a weights file.
        options: what to measure.
        direction: which generator of a pair; see :func:`gankit.checkpoints.open_model`.
        model_options: options of the model; see :func:`gankit.checkpoints.open_model`.
        notify: called with a line for each step that takes long.

    Raises:
        UsageError: If a name or a device is unknown.
        BackendError: If no backend can run the model here. The message gives the reason for each.
        CheckpointError: If the weights cannot be read.
    """
    import_torch()
    source = ModelSource(model, None, direction, options=dict(model_options or {}))
    loaded = source.open()
    from gankit.backends.choice.environment import installed
    from gankit.backends.choice.machine import machine

    base = Job("engine", "fp32", "", options.threads, model, direction, dict(model_options or {}), tile=options.tile)
    specs, omitted = _specs(loaded, options)
    rows: list[Row] = []
    for sized in _sized(base, loaded, options):
        jobs = [replace(sized, backend=name, precision=spec.precision, device=spec.device) for name, spec in specs]
        rows += _rows(loaded, jobs, options, notify or (lambda line: None))
    return Measurements(tuple(rows), tuple(omitted), asdict(machine()), installed())


def _sized(job: Job, loaded: Loaded, options: BenchmarkOptions) -> Iterator[Job]:
    """Yield the job with the size and the batch of each table."""
    if loaded.facts.task == "generate":
        yield replace(job, batch=options.batch or _SAMPLES)
        return
    for height, width in dict.fromkeys(options.sizes):
        yield replace(job, height=height, width=width, batch=options.batch or 1)


def _specs(loaded: Loaded, options: BenchmarkOptions) -> tuple[list[tuple[str, EngineSpec]], list[str]]:
    """Return the engines to measure, by the name of the backend, and a line for each backend that is not measured.

    Raises:
        BackendError: If there is none.
    """
    from gankit.backends.base import EngineSpec
    from gankit.backends.choice.candidates import devices, offered, parse_device

    device = parse_device(options.device)
    spec = EngineSpec(loaded.generator, loaded.facts, device=devices()[0] if device == "auto" else device)
    found: list[tuple[str, EngineSpec]] = []
    omitted: list[str] = []
    for name in options.backends or backends.BACKENDS:
        backend = backends.get(name)
        can = offered(backend, spec)
        if can and backend.slow_start and not options.backends:
            omitted.append(f"{name}: takes minutes to compile; add --backend {name} to measure it")
            continue
        wanted = options.precisions or _worthwhile(can, spec.device_type)
        chosen = [precision for precision in wanted if precision in can]
        found += [(name, replace(spec, precision=precision)) for precision in chosen]
        if not chosen:
            asked = replace(spec, precision=wanted[0] if wanted else "fp32")
            omitted.append(f"{name}: {backend.supports(asked) or 'supports none of the precisions of this model'}")
    if not found:
        raise BackendError(f"no backend can run this model here: {'; '.join(omitted)}")
    return found, omitted


def _worthwhile(precisions: Sequence[Precision], device_type: str) -> tuple[Precision, ...]:
    """Leave out bf16 on a processor that only emulates it, which takes many times as long as fp32."""
    from gankit.backends.choice.machine import machine

    emulated = {"bf16"} if device_type == "cpu" and not machine().fast_bf16 else set()
    return tuple(item for item in precisions if item not in emulated)


def _rows(loaded: Loaded, jobs: Sequence[Job], options: BenchmarkOptions, notify: Notify) -> list[Row]:
    """Measure the engines of one size."""
    with ExitStack() as stack:
        workers = []
        for job in jobs:
            notify(f"starting {job.backend} {job.precision}")
            workers.append(stack.enter_context(_started(job)))
        kinds = dict.fromkeys((job.device, job.precision) for job in jobs)
        ceilings = {}
        for device, precision in kinds:
            ceiling = Worker(Job("ceiling", precision, device, options.threads))
            ceilings[device, precision] = stack.enter_context(ceiling)
            ceiling.start()
        began = time.perf_counter()
        for index in range(options.rounds):
            spent = time.perf_counter() - began
            if index and spent * (index + 1) / index > options.seconds:
                break
            notify(f"round {index + 1} of {options.rounds}")
            for worker in (*workers, *ceilings.values()):
                worker.run()
        notify("measuring the parity")
        return [_row(loaded, worker, _rate(ceilings[worker.job.device, worker.job.precision])) for worker in workers]


def _started(job: Job) -> Worker:
    """Start an engine, and once more if it first had to export the model, so that all start with what is cached."""
    worker = Worker(job)
    try:
        worker.start()
        if not worker.facts.get("exported"):
            return worker
        worker.close()
        worker = Worker(job)
        worker.start()
    except BaseException:
        worker.close()
        raise
    return worker


def _rate(ceiling: Worker) -> float | None:
    """Return the operations per second of the fastest run of the convolution; ``None`` if it does not run."""
    if not ceiling.facts:
        return None
    fastest: float = min(ceiling.facts["seconds"], *ceiling.seconds)
    return float(ceiling.facts["flop"]) / fastest


def _row(loaded: Loaded, worker: Worker, ceiling: float | None) -> Row:
    job, facts = worker.job, loaded.facts
    found = worker.parity()
    height, width = facts.output_size or (job.height, job.width)
    return Row(
        model=Path(job.model).name,
        input=f"{job.batch} samples" if facts.task == "generate" else f"{job.width}×{job.height}",
        batch=job.batch,
        backend=job.backend,
        precision=job.precision,
        device=job.device,
        seconds=tuple(worker.seconds),
        megapixels=job.batch * height * width / 1e6,
        flop=_flop(loaded, job),
        ceiling=ceiling,
        peak=worker.peak,
        gpu=worker.gpu,
        start_seconds=worker.start_seconds,
        parity=float(found["psnr"]) if found else None,
        parity_image=found.get("image", ""),
        contrast=found.get("contrast", 0.0),
        error=worker.error,
    )


def _flop(loaded: Loaded, job: Job) -> float | None:
    """Return the floating-point operations of one run; ``None`` for a network whose layers cannot be counted."""
    from gankit.models.cost import cost

    facts = loaded.facts
    multiple, least = facts.multiple, facts.minimum
    height, width = (-(-max(side, least) // multiple) * multiple for side in (job.height, job.width))
    shape = (facts.latent,) if facts.task == "generate" else (facts.channels, height, width)
    try:
        macs = cost(loaded.generator, shape, conditional=facts.classes > 0).macs
    except Exception:  # a network from a file, or of another library, that does not run without values
        return None
    return 2.0 * macs * job.batch or None
