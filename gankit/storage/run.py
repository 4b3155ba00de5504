"""Run files and folders of which some are URLs, in this process or by workers. Imports no torch before it is needed."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Protocol, Unpack

from gankit.pipeline.items import Progress
from gankit.pipeline.records import Records
from gankit.pipeline.report import ImageReport, Report, versions
from gankit.pipeline.resume import Decision
from gankit.pipeline.run_options import RunKeywords, RunOptions
from gankit.pipeline.targets import Job
from gankit.storage.claims import claiming
from gankit.storage.group import Busy, Result, Task
from gankit.storage.plan import make_plan, tasks_of
from gankit.storage.urls import shown
from gankit.storage.work import run_tasks, start_seconds
from gankit.video.options import VideoOptions

if TYPE_CHECKING:
    from gankit.pipeline.file_pipeline import FilePipeline


class Execute(Protocol):
    """Does tasks, wherever, calls ``record`` with each result, and returns how long the engines waited."""

    def __call__(
        self,
        tasks: Sequence[Task],
        options: RunOptions,
        record: Callable[[Result], None],
        progress: Callable[[Progress], None] | None,
    ) -> Busy:
        """Do the tasks."""


def run_remote(
    pipeline: FilePipeline,
    inputs: Sequence[str | Path],
    output: str | Path | None = None,
    *,
    video: VideoOptions | None = None,
    progress: Callable[[Progress], None] | None = None,
    failed: Callable[[ImageReport], None] | None = None,
    each: Callable[[ImageReport], None] | None = None,
    execute: Execute | None = None,
    **options: Unpack[RunKeywords],
) -> Report:
    """Run files, folders and patterns of images and clips, of which some are URLs such as ``s3://bucket/photos/``.

    Results have the names and pixels that :meth:`ImagePipeline.run <gankit.pipeline.images.ImagePipeline.run>` would
    give them. Each object appears whole or not at all. A later run with the same output makes only what is missing, or
    whose source, model or options changed.

    Args:
        pipeline: an :class:`~gankit.Upscaler` or a :class:`~gankit.Translator`.
        inputs: paths and URLs. URLs need fsspec (``pip install 'gankit[remote]'``) and the package of their store.
        output: folder for the results, or the result of a single clip, a path or a URL; ``None`` writes the results of
            local inputs beside them.
        video: the options of clips.
        progress: called with the state of the run, from any thread, one call at a time. While a clip is processed, it
            is a :class:`gankit.video.progress.ClipProgress`.
        failed: called with the report of each image that fails.
        each: called with the report of each image.
        execute: does the tasks; ``None`` does them in this process.
        options: the fields of :class:`gankit.pipeline.run_options.RunOptions`.

    Returns:
        The report of the run, which is also that of the pipeline. Its sources and targets that are URLs are paths
        whose text is the URL.

    Raises:
        UsageError: If the inputs or the options are wrong, or a package is missing.
        OutputError: If the output cannot be written. What was written before is complete.
        BackendError, CheckpointError, ParityError: If no engine can run the model.
    """
    chosen = RunOptions(**options)
    pipeline.report = None
    with tempfile.TemporaryDirectory(prefix="gankit-") as folder:
        plan = make_plan(pipeline, inputs, output, chosen, Path(folder), video or VideoOptions())
        places, ledger, jobs = plan.places, plan.ledger, plan.jobs
        again = {one.job.source: one.change for one in plan.decisions if one.change is not None}
        notify = pipeline.notify

        def named(listener: Callable[[ImageReport], None] | None) -> Callable[[ImageReport], None] | None:
            return None if listener is None else lambda report: listener(places.report(report))

        records = Records(
            plan.found,
            Path(output or "."),
            named(failed),
            None if notify is None else lambda line: notify(places.text(line)),
            again,
            named(each),
        )
        for one in plan.decisions:
            if not one.run:
                records.add(ImageReport(one.job.source, one.job.target, "skipped" if one.up_to_date else "kept"))
        began, lock, busy = perf_counter(), threading.Lock(), Busy()
        starting = start_seconds(pipeline)

        def record(result: Result) -> None:
            job, task, report = jobs[result.number], tasks[result.number], result.report
            names = ((task.source, str(job.source)), (task.target, str(job.target)))  # the task has absolute paths
            error = report.error or ""
            for place, own in names:
                error = error.replace(place, own)
            with lock:
                if report.status == "done":
                    ledger.finish(job, result)
                records.add(replace(report, source=job.source, target=job.target, error=error or None))

        tasks = list(tasks_of(plan))
        try:
            if jobs:
                ledger.begin(jobs)
                began = perf_counter()
                with ExitStack() as stack:
                    stack.callback(ledger.close)
                    if ledger.shared is not None:
                        claims = stack.enter_context(claiming(ledger.shared, [task.target for task in tasks]))
                        tasks = [replace(task, claim=claims[task.target]) for task in tasks]
                    if execute is None:
                        busy = run_tasks(pipeline, tasks, chosen, record, progress=progress, notify=notify)
                    else:
                        busy = execute(tasks, chosen, record, progress)
        finally:
            seconds = perf_counter() - began - (start_seconds(pipeline) - starting) if jobs else 0.0
            report = pipeline.report_of(records, plan.found, seconds)
            report = replace(report, waits=busy.within(seconds))
            if any(task.video is not None for task in tasks):
                report = replace(report, versions={**report.versions, **versions(("av",))})
            pipeline.report = places.whole_report(report)
    return pipeline.report


def plan_remote(
    pipeline: FilePipeline,
    inputs: Sequence[str | Path],
    output: str | Path | None = None,
    *,
    video: VideoOptions | None = None,
    **options: Unpack[RunKeywords],
) -> list[Decision]:
    """Return what :func:`run_remote` would do, without decoding or writing anything.

    Args:
        pipeline: as for :func:`run_remote`, as are the other arguments.
        inputs: see there.
        output: see there.
        video: see there.
        options: see there.

    Raises:
        UsageError: If they are wrong.
    """
    with tempfile.TemporaryDirectory(prefix="gankit-") as folder:
        plan = make_plan(pipeline, inputs, output, RunOptions(**options), Path(folder), video or VideoOptions())
        place = plan.places.place
        jobs = [Job(shown(place(each.job.source)), shown(place(each.job.target))) for each in plan.decisions]
        return [replace(each, job=job) for each, job in zip(plan.decisions, jobs, strict=True)]
