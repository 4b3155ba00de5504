"""Run tasks whose sources and targets may be URLs, through a bounded temporary folder.

While one group of images runs through the engine, the next one is fetched and the results of the last one are put to
their places. At most three groups are in the temporary folder.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from time import perf_counter, sleep
from typing import TYPE_CHECKING, Any, cast

from gankit.pipeline.folder_claims import FolderClaims
from gankit.pipeline.items import Progress
from gankit.pipeline.remaining import weight_of
from gankit.pipeline.report import ImageReport, Waits
from gankit.pipeline.run_options import RunOptions
from gankit.storage.claims import Claim, Watch
from gankit.storage.clips import run_clip
from gankit.storage.group import Busy, Group, Kept, Result, Task, file_at, made_elsewhere
from gankit.storage.urls import is_url

if TYPE_CHECKING:
    from gankit.pipeline.file_pipeline import FilePipeline
    from gankit.pipeline.images import ImagePipeline

_GROUP = 16
_GROUP_BYTES = 128 << 20
_SUMS = ("done", "failed", "output_mp", "done_mp")
_TRANSFERS = 8
_POLL = 1.0  # seconds between two looks at what other runs have claimed


def run_tasks(
    pipeline: FilePipeline,
    tasks: Sequence[Task],
    options: RunOptions,
    record: Callable[[Result], None],
    *,
    progress: Callable[[Progress], None] | None = None,
    notify: Callable[[str], None] | None = None,
    check: bool = False,
    left: Callable[[Task], None] | None = None,
) -> Busy:
    """Run tasks: images, a group at a time, and then clips, one after the other.

    Args:
        pipeline: the pipeline.
        tasks: tasks with different targets.
        options: the options of the run.
        record: called with each result, from any thread.
        progress: called with the state of the run, from any thread, one call at a time. While a clip is processed, it
            is a :class:`gankit.video.progress.ClipProgress`.
        notify: called with each line to report to the user.
        check: whether results that appeared since the run began are those of an earlier try that was lost; otherwise
            another run has made them.
        left: called with each task whose result another run has claimed; ``None`` waits for them.

    Returns:
        How long it took, and how long the engine waited.

    Raises:
        OutputError: If a local folder cannot be written.
        BackendError, CheckpointError, ParityError: If no engine can run the model.
    """
    began, starting, waits = perf_counter(), start_seconds(pipeline), Waits(0.0, 0.0)
    with FolderClaims() as local:
        waiting = list(tasks)
        while waiting:
            images = [task for task in waiting if task.video is None]
            claimed: list[Task] = []
            if images:
                others, waited = _run_images(
                    pipeline, images, options, record, local, progress=progress, notify=notify, check=check
                )
                claimed, waits = [*claimed, *others], waits + waited
            for task in waiting:
                if task.video is not None:
                    result, waited = run_clip(
                        cast("ImagePipeline", pipeline),
                        task,
                        options,
                        task.video,
                        local,
                        progress=progress,
                        check=check,
                    )
                    waits += waited
                    if result is None:
                        claimed.append(task)
                    else:
                        record(result)
            if left is not None:
                for task in claimed:
                    left(task)
                break
            ended = perf_counter()
            waiting = after_others(claimed, record, local, notify) if claimed else []
            waits += Waits(perf_counter() - ended, 0.0)
    return Busy(perf_counter() - began - (start_seconds(pipeline) - starting), waits)


def start_seconds(pipeline: FilePipeline) -> float:
    """Return how long the start of the engine took; 0 if it has not started."""
    engine = pipeline.engines.report()
    return 0.0 if engine is None else engine.start_seconds


def after_others(
    tasks: Sequence[Task],
    record: Callable[[Result], None],
    local: FolderClaims,
    notify: Callable[[str], None] | None,
) -> list[Task]:
    """Wait for the results that other runs have claimed.

    Args:
        tasks: their tasks, of which there is one.
        record: called with each result that another run has made.
        local: the claims on local results.
        notify: called with a line that says so.

    Returns:
        The tasks that other runs have left undone, with the claims on their local results, and those to wait for still;
        nothing if all results are made.
    """
    if notify is not None:
        results = "a result that another run is" if len(tasks) == 1 else f"{len(tasks)} results that other runs are"
        notify(f"waiting for {results} making")
    watches: dict[str, Watch] = {}
    waiting, free = list(tasks), list[Task]()
    while waiting and not free:
        for task in [*waiting]:
            taken = task.claim is None and local.take(Path(task.target))
            now = file_at(task.target)
            if now is not None and now.stamp != task.before:
                if task.claim is None:
                    local.release(Path(task.target))
                record(Result(task.number, made_elsewhere(task), written=now.state))
            elif taken or (task.claim is not None and _watch(watches, task.claim).is_free(task.claim)):
                free.append(task)
            else:
                continue
            waiting.remove(task)
        if waiting and not free:
            sleep(_POLL)
    return [*free, *waiting]


def _watch(watches: dict[str, Watch], claim: Claim) -> Watch:
    return watches.setdefault(claim.root, Watch(claim.root))


def _run_images(
    pipeline: FilePipeline,
    tasks: Sequence[Task],
    options: RunOptions,
    record: Callable[[Result], None],
    local: FolderClaims,
    *,
    progress: Callable[[Progress], None] | None,
    notify: Callable[[str], None] | None,
    check: bool,
) -> tuple[list[Task], Waits]:
    """Run images. Return those whose results other runs have claimed, and how long the engine waited."""
    began, finished = perf_counter(), Progress(len(tasks))
    all_bytes, reached = sum(task.size for task in tasks), 0

    def total(state: Progress) -> None:
        if progress is not None:
            sums = {name: getattr(finished, name) + getattr(state, name) for name in _SUMS}
            mp = finished.total_mp + state.total_mp
            # The sizes of the sources that are not here yet are known in bytes only.
            sums["total_mp"] = mp * max(1.0, all_bytes / reached) if reached else mp
            progress(replace(state, total=len(tasks), seconds=perf_counter() - began, **sums))

    with tempfile.TemporaryDirectory(prefix="gankit-") as temporary, ThreadPoolExecutor(_TRANSFERS) as pool:
        groups = [Group(part, Path(temporary), local) for part in _parts(tasks)]
        fetching = {id(group): [] for group in groups}  # type: dict[int, list[Future[None]]]

        def fetch(group: Group) -> None:
            fetching[id(group)] = [pool.submit(group.fetch, task, check=check) for task in group.tasks]

        putting: list[Future[None]] = []
        waits = Waits(0.0, 0.0)
        try:
            for index, group in enumerate(groups):
                if index == 0:
                    fetch(group)
                waits += Waits(_wait(fetching.pop(id(group))), 0.0)
                if index + 1 < len(groups):
                    fetch(groups[index + 1])
                reached += sum(task.size for task in group.tasks)
                reports, collected, waited = _processed(pipeline, group, options, total, notify)
                finished = _added(finished, reports.values())
                finished = replace(finished, total_mp=finished.done_mp)
                waits += waited + Waits(0.0, _wait(putting))
                putting = [
                    pool.submit(_put, group, task, reports.get(task.number), collected, record) for task in group.tasks
                ]
            waits += Waits(0.0, _wait(putting))
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return [task for group in groups for task in group.claimed], waits


def _wait(futures: Sequence[Future[None]]) -> float:
    """Wait for transfers, and return how long it took."""
    began = perf_counter()
    for future in futures:
        future.result()
    return perf_counter() - began


def _put(
    group: Group, task: Task, report: ImageReport | None, collected: Kept, record: Callable[[Result], None]
) -> None:
    if task.number in group.results:
        record(group.results[task.number])
    elif report is not None:
        record(group.put(task, report, collected.entries.get(group.jobs[task.number].target)))


def _processed(
    pipeline: FilePipeline,
    group: Group,
    options: RunOptions,
    progress: Callable[[Progress], None],
    notify: Callable[[str], None] | None,
) -> tuple[dict[int, ImageReport], Kept, Waits]:
    """Run the sources of a group that were fetched. Return the reports by the number of the task, and the waits."""
    own = pipeline.engines.options_of_results()
    collected = Kept(pipeline.engines.weights_sha256, lambda target: {**own, **options.of_result(target)})
    numbers = {job.target: number for number, job in group.jobs.items()}
    reports: dict[int, ImageReport] = {}

    def record(report: ImageReport) -> None:
        reports[numbers[report.target]] = report

    jobs = [group.jobs[task.number] for task in group.tasks if task.number in group.jobs]
    waits = Waits(0.0, 0.0)
    if jobs:
        waits = pipeline.process(jobs, options, collected, record=record, progress=progress, notify=notify)
    return reports, collected, waits


def _parts(tasks: Sequence[Task]) -> Iterator[list[Task]]:
    """Split tasks into groups. Tasks that need no transfer are one group, whatever their number."""
    if not any(is_url(task.source) or is_url(task.target) for task in tasks):
        if tasks:
            yield list(tasks)
        return
    part: list[Task] = []
    for task in tasks:
        if part and (len(part) == _GROUP or sum(each.size for each in part) + task.size > _GROUP_BYTES):
            yield part
            part = []
        part.append(task)
    if part:
        yield part


def _added(state: Progress, reports: Any) -> Progress:
    for report in reports:
        width, height = report.output_size or (0, 0)
        done = report.status == "done"
        state = replace(state, done=state.done + done, failed=state.failed + (not done),
                        output_mp=state.output_mp + done * width * height / 1e6,
                        done_mp=state.done_mp + weight_of(report))  # fmt: skip
    return state
