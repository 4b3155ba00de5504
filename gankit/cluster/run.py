"""Run files on a Ray cluster. Imports neither Ray nor torch before it runs."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any, Unpack

from gankit.cluster.ray_data import check, connected, divided, pool_of, rows
from gankit.cluster.worker import Done, Worker
from gankit.pipeline.folder_claims import FolderClaims
from gankit.pipeline.items import Progress
from gankit.pipeline.remaining import Pixels
from gankit.pipeline.report import ImageReport, Report
from gankit.pipeline.run_options import RunKeywords, RunOptions
from gankit.pipeline.targets import Job
from gankit.storage.group import Busy, Result, Task
from gankit.storage.run import run_remote
from gankit.storage.urls import shown
from gankit.storage.work import after_others
from gankit.video.options import VideoOptions

if TYPE_CHECKING:
    from gankit.pipeline.file_pipeline import FilePipeline

_MOST, _MOST_BYTES = 64, 4 << 20  # images of a block, and bytes of their sources


def run_on_cluster(
    pipeline: FilePipeline,
    inputs: Sequence[str | Path],
    output: str | Path | None = None,
    *,
    address: str,
    worker: Callable[..., FilePipeline],
    video: VideoOptions | None = None,
    progress: Callable[[Progress], None] | None = None,
    failed: Callable[[ImageReport], None] | None = None,
    each: Callable[[ImageReport], None] | None = None,
    **options: Unpack[RunKeywords],
) -> Report:
    """Run files, folders, patterns and URLs of images and clips on a Ray cluster.

    Args:
        pipeline: the pipeline of this process, which decides what to do and runs no image.
        inputs: paths and URLs. Every machine must be able to read the paths, and to write those of the results.
        output: folder for the results, a path or a URL; ``None`` writes the results of local inputs beside them.
        address: ``HOST:PORT``, ``ray://HOST:PORT``, ``"local"`` to start a cluster on this machine, or ``"auto"`` for
            the one that Ray finds (``RAY_ADDRESS``), else a local one.
        worker: makes the pipeline of a worker from ``engine``. It is pickled.
        video: the options of clips. A worker makes one clip at a time.
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
    check(address)
    seen: list[Any] = []
    execute = partial(_execute, address, worker, pipeline.engine, pipeline.notify, seen)
    try:
        run_remote(
            pipeline, inputs, output, video=video, progress=progress, failed=failed, each=each, execute=execute,
            **options,
        )  # fmt: skip
    finally:
        if pipeline.report is not None and seen:
            engine, exact, model = seen[0]
            pipeline.report = replace(pipeline.report, engine=engine, fp32_engine=exact, model=model)
    assert pipeline.report is not None
    return pipeline.report


def _share(task: Task) -> float:
    """Return how much of a full block an image is: blocks of small images repay what a block costs by itself."""
    return max(1 / _MOST, task.size / _MOST_BYTES)


def _execute(
    address: str,
    make: Callable[..., FilePipeline],
    engine: Any,
    notify: Callable[[str], None] | None,
    seen: list[Any],
    tasks: Sequence[Task],
    options: RunOptions,
    record: Callable[[Result], None],
    progress: Callable[[Progress], None] | None,
) -> Busy:
    state, began, busy = Progress(len(tasks)), perf_counter(), Busy()
    pixels = Pixels([Job(shown(task.source), shown(task.target)) for task in tasks])

    def count(result: Result) -> None:
        nonlocal state
        record(result)
        report = result.report
        width, height = report.output_size or (0, 0)
        state = replace(
            state,
            total=state.total - (report.status not in ("done", "failed")),
            done=state.done + (report.status == "done"),
            failed=state.failed + (report.status == "failed"),
            output_mp=state.output_mp + report.frames * width * height / 1e6,
            seconds=perf_counter() - began,
            current=report.source,
        )
        pixels.add(report)
        if progress is not None:
            progress(pixels.of(state))

    with connected(address) as ray:
        pool = pool_of(ray.nodes(), engine.threads, engine.device)
        if pool.gpus == 0:
            engine = replace(engine, threads=pool.cpus)
        given = (partial(make, engine=engine, notify=None), options, str(Path.cwd()))
        waiting = list(tasks)
        while waiting:
            images, clips = [task for task in waiting if task.video is None], [task for task in waiting if task.video]
            blocks = [*([clip] for clip in clips), *divided(images, pool.workers, _share)]  # a clip takes longest
            left: list[Task] = []
            for row in rows(ray, pool, Worker, given, blocks):
                found: Done | Exception = pickle.loads(row)
                if isinstance(found, Exception):
                    raise found
                busy, left = busy + found.busy, [*left, *found.left]
                if found.engines[0] is not None and not seen:
                    seen.append(found.engines)
                for result in found.results:
                    count(result)
            with FolderClaims() as local:
                waiting = after_others(left, count, local, notify) if left else []
    return busy
