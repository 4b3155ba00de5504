"""Run files on a Ray cluster. Imports neither Ray nor torch before it runs."""

from __future__ import annotations

import importlib.util
import logging
import os
import pickle
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any, Unpack

from gankit.cluster.worker import RESULT, TASK, Worker
from gankit.errors import BackendError, UsageError, first_line
from gankit.pipeline.items import Progress
from gankit.pipeline.remaining import Pixels
from gankit.pipeline.report import ImageReport, Report
from gankit.pipeline.run_options import RunKeywords, RunOptions
from gankit.pipeline.targets import Job
from gankit.storage.run import run_remote
from gankit.storage.urls import shown
from gankit.storage.work import Result, Task

if TYPE_CHECKING:
    from gankit.pipeline.images import ImagePipeline

_ADDRESS = re.compile(r"auto|local|(ray://)?[\w.\-\[\]:]+:\d+")
_GROUP_CORES = 8  # an engine with more gains little, and images are independent of each other
_BLOCK = 16


@dataclass(frozen=True)
class Pool:
    """The workers of a run.

    Attributes:
        workers: their number.
        cpus: CPU cores of each.
        gpus: GPUs of each, 0 or 1.
    """

    workers: int
    cpus: int
    gpus: int


def run_on_cluster(
    pipeline: ImagePipeline,
    inputs: Sequence[str | Path],
    output: str | Path | None = None,
    *,
    address: str,
    worker: Callable[..., ImagePipeline],
    progress: Callable[[Progress], None] | None = None,
    failed: Callable[[ImageReport], None] | None = None,
    each: Callable[[ImageReport], None] | None = None,
    **options: Unpack[RunKeywords],
) -> Report:
    """Run files, folders, patterns and URLs on a Ray cluster.

    Args:
        pipeline: the pipeline of this process, which decides what to do and runs no image.
        inputs: paths and URLs. Every machine must be able to read the paths, and to write those of the results.
        output: folder for the results, a path or a URL; ``None`` writes the results of local inputs beside them.
        address: ``HOST:PORT``, ``ray://HOST:PORT``, ``"local"`` to start a cluster on this machine, or ``"auto"`` for
            the one that Ray finds (``RAY_ADDRESS``), else a local one.
        worker: makes the pipeline of a worker from ``engine``. It is pickled.
        progress: called with the state of the run.
        failed: called with the report of each image that fails.
        each: called with the report of each image.
        options: the fields of :class:`gankit.pipeline.run_options.RunOptions`.

    Returns:
        The report of the run, as that of :func:`gankit.storage.run_remote`. Its engine is that of the first worker that
        finished an image.

    Raises:
        UsageError: If Ray is missing, the address is wrong, or the inputs or options are wrong.
        BackendError: If the cluster cannot be reached, or ends before the run does.
        OutputError, CheckpointError, ParityError: As for a run in this process.
    """
    check_address(address)
    if importlib.util.find_spec("ray") is None:
        raise UsageError("--cluster needs Ray; run: pip install 'gankit[ray]'")
    seen: list[Any] = []
    execute = partial(_execute, address, worker, pipeline.engine, seen)
    try:
        run_remote(pipeline, inputs, output, progress=progress, failed=failed, each=each, execute=execute, **options)
    finally:
        if pipeline.report is not None and seen:
            engine, exact, model = seen[0]
            pipeline.report = replace(pipeline.report, engine=engine, fp32_engine=exact, model=model)
    assert pipeline.report is not None
    return pipeline.report


def check_address(address: str) -> None:
    """Check that an address is one; ``--cluster photos/`` takes the next word for it.

    Raises:
        UsageError: If it is none.
    """
    if not _ADDRESS.fullmatch(address):
        raise UsageError(
            f"'{address}' is no address of a cluster; use HOST:PORT, local or auto, or write --cluster last"
        )


def _execute(
    address: str,
    make: Callable[..., ImagePipeline],
    engine: Any,
    seen: list[Any],
    tasks: Sequence[Task],
    options: RunOptions,
    record: Callable[[Result], None],
    progress: Callable[[Progress], None] | None,
) -> None:
    state, began = Progress(len(tasks)), perf_counter()
    pixels = Pixels([Job(shown(task.source), shown(task.target)) for task in tasks])
    with _connected(address) as ray:
        pool = pool_of(ray.nodes(), engine.threads, engine.device)
        if pool.gpus == 0:
            engine = replace(engine, threads=pool.cpus)
        rows = _rows(ray, pool, partial(make, engine=engine, notify=None), tasks, options)
        for row in rows:
            found = pickle.loads(row[RESULT])
            if isinstance(found, Exception):
                raise found
            result, engines = found
            if engines[0] is not None and not seen:
                seen.append(engines)
            record(result)
            report = result.report
            width, height = report.output_size or (0, 0)
            state = replace(
                state,
                done=state.done + (report.status == "done"),
                failed=state.failed + (report.status == "failed"),
                output_mp=state.output_mp + width * height / 1e6,
                seconds=perf_counter() - began,
                current=report.source,
            )
            pixels.add(report)
            if progress is not None:
                progress(pixels.of(state))


def pool_of(nodes: Sequence[Any], threads: int | None, device: str = "auto") -> Pool:
    """Return the workers for a cluster: one for each GPU, or else one for each group of cores.

    Args:
        nodes: what ``ray.nodes()`` returns.
        threads: cores of each worker that the user asked for; ``None`` makes groups of up to 8 in each machine.
        device: device that the user asked for; ``"cpu"`` leaves GPUs alone.

    Raises:
        UsageError: If no machine has so many cores.
    """
    resources = [node["Resources"] for node in nodes if node["Alive"]]
    gpus = 0 if device == "cpu" else int(sum(each.get("GPU", 0) for each in resources))
    if gpus:
        return Pool(gpus, 1, 1)
    cores = [int(each.get("CPU", 0)) for each in resources if each.get("CPU", 0) >= 1]
    if not cores:
        raise UsageError("the cluster has no CPU cores to run on")
    each = threads or max(1, min(cores) // -(-min(cores) // _GROUP_CORES))
    workers = sum(count // each for count in cores)
    if not workers:
        raise UsageError(f"no machine of the cluster has {each} cores; use a smaller --threads")
    return Pool(workers, each, 0)


def _rows(
    ray: Any, pool: Pool, make: Callable[[], ImagePipeline], tasks: Sequence[Task], options: RunOptions
) -> Iterator[Any]:
    """Yield a row for each result, in any order."""
    workers = min(pool.workers, len(tasks))
    block = max(1, min(_BLOCK, len(tasks) // (4 * workers)))
    items = [{TASK: pickle.dumps(task)} for task in tasks]
    data = ray.data.from_items(items, override_num_blocks=-(-len(items) // block))
    done = data.map_batches(
        Worker,
        fn_constructor_args=(make, options, str(Path.cwd())),
        batch_size=None,  # a block at a time
        compute=ray.data.ActorPoolStrategy(size=workers),
        num_cpus=pool.cpus,
        num_gpus=pool.gpus,
    )
    try:
        yield from done.iter_rows()
    except ray.exceptions.RayError as error:
        raise BackendError(f"the cluster could not finish the run: {first_line(error)}") from error


@contextmanager
def _connected(address: str) -> Iterator[Any]:
    """Connect to a cluster, whose own lines are kept off the terminal."""
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    import ray
    import ray.data

    own = not ray.is_initialized()
    if own:
        try:
            ray.init(
                None if address == "auto" else address,
                log_to_driver=False,
                logging_level=logging.ERROR,
                include_dashboard=False if address == "local" else None,
            )
        except (ConnectionError, RuntimeError, ValueError, TimeoutError) as error:
            raise BackendError(f"{address}: no Ray cluster can be reached: {first_line(error)}") from error
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    for name in ("ray", "ray.data"):
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        yield ray
    finally:
        if own:
            ray.shutdown()
