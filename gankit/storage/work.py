"""Run tasks whose sources and targets may be URLs, through a bounded temporary folder.

While one group of images runs through the engine, the next one is fetched and the results of the last one are put to
their places. At most three groups are in the temporary folder.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from time import perf_counter
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from gankit.errors import GankitError, first_line
from gankit.pipeline.items import Progress
from gankit.pipeline.journal import Entry, sha256_of, state_of
from gankit.pipeline.remaining import weight_of
from gankit.pipeline.report import ImageReport
from gankit.pipeline.resume import Resume
from gankit.pipeline.run_options import RunOptions
from gankit.pipeline.targets import Job
from gankit.storage.stores import Store, open_store
from gankit.storage.urls import is_url, shown

if TYPE_CHECKING:
    from gankit.pipeline.images import ImagePipeline

_GROUP = 16
_GROUP_BYTES = 128 << 20
_SUMS = ("done", "failed", "output_mp", "done_mp")
_TRANSFERS = 8


@dataclass(frozen=True)
class Task:
    """One image to process, wherever it is.

    Attributes:
        number: number of the task in its run.
        source: path or URL of the source.
        target: path or URL of the result.
        size: bytes of the source.
        before: state of the file in the place of the result when the run began; ``None`` if there was none.
    """

    number: int
    source: str
    target: str
    size: int = 0
    before: str | None = None


@dataclass(frozen=True)
class Result:
    """What became of a task.

    Attributes:
        number: number of the task.
        report: its report.
        made_by: how the result was made, for the journal.
        written: state of the result; ``None`` if it failed.
        entry: line for a journal of local files; ``None`` if there is none.
    """

    number: int
    report: ImageReport
    made_by: Mapping[str, Any] = field(default_factory=dict)
    written: str | None = None
    entry: Entry | None = None


class _Collected(Resume):
    """Keeps the journal's entries of the results in place of writing them."""

    def __init__(self, pipeline: ImagePipeline, options: RunOptions) -> None:
        own = pipeline.engines.options_of_results()
        super().__init__(pipeline.engines.weights_sha256, lambda target: {**own, **options.of_result(target)})
        self.entries: dict[Path, Entry] = {}

    def begin(self, job: Job, made_by: Mapping[str, Any] = MappingProxyType({})) -> None:
        """Write nothing."""

    def finish(self, job: Job, made_by: Mapping[str, Any] = MappingProxyType({})) -> None:
        """Keep the entry."""
        entry, target = self._entry(job, made_by), job.target
        self.entries[target] = replace(entry, written=state_of(target), written_sha256=sha256_of(target))


@dataclass
class _Group:
    """Some tasks, with their files in the temporary folder."""

    tasks: Sequence[Task]
    folder: Path
    jobs: dict[int, Job] = field(default_factory=dict)
    results: dict[int, Result] = field(default_factory=dict)
    seconds: dict[int, float] = field(default_factory=dict)

    def fetch(self, task: Task, *, check: bool) -> None:
        """Bring a source into the temporary folder, unless it is local."""
        began, target = perf_counter(), Path(task.target)
        try:
            if check and (now := _state(task.target)) is not None and now != task.before:
                self.results[task.number] = Result(task.number, _finished(task), written=now)
                return
            own = self.folder / str(task.number)
            source = Path(task.source)
            if is_url(task.source):
                store, name = _parent(task.source)
                own.mkdir(parents=True, exist_ok=True)
                source = own / name
                store.fetch(name, source)
            if is_url(task.target):
                target = own / "out" / task.target.rpartition("/")[2]
            target.parent.mkdir(parents=True, exist_ok=True)
        except (OSError, GankitError) as error:
            self.fail(task, f"{task.source}: cannot be read: {_reason(error)}")
            return
        self.seconds[task.number] = perf_counter() - began
        self.jobs[task.number] = Job(source, target)

    def fail(self, task: Task, error: str) -> None:
        """Record that a task failed."""
        self.results[task.number] = Result(task.number, ImageReport(shown(task.source), shown(task.target), "failed",
                                                                    error=error))  # fmt: skip

    def put(self, task: Task, report: ImageReport, entry: Entry | None) -> Result:
        """Put a result to its place, and remove what is in the temporary folder."""
        job, began, written = self.jobs[task.number], perf_counter(), None
        report = _named(report, task, job)
        if report.status == "done":
            try:
                if is_url(task.target):
                    store, name = _parent(task.target)
                    store.put(job.target, name)
                written = _state(task.target)
            except (OSError, GankitError) as error:
                why = f"{task.target}: cannot be written: {_reason(error)}"
                report = replace(report, status="failed", error=why, output_size=None)
        report = replace(
            report,
            decode_seconds=report.decode_seconds + self.seconds[task.number],
            encode_seconds=report.encode_seconds + perf_counter() - began,
        )
        self.clear(task)
        made_by = {} if entry is None else entry.made_by
        return Result(task.number, report, made_by, written, entry if report.status == "done" else None)

    def clear(self, task: Task) -> None:
        """Remove what a task has in the temporary folder."""
        import shutil

        shutil.rmtree(self.folder / str(task.number), ignore_errors=True)


def run_tasks(
    pipeline: ImagePipeline,
    tasks: Sequence[Task],
    options: RunOptions,
    record: Callable[[Result], None],
    *,
    progress: Callable[[Progress], None] | None = None,
    notify: Callable[[str], None] | None = None,
    check: bool = False,
) -> None:
    """Run tasks, a group at a time.

    Args:
        pipeline: the pipeline.
        tasks: tasks with different targets.
        options: the options of the run.
        record: called with each result, from any thread.
        progress: called with the state of the run, from any thread, one call at a time.
        notify: called with each line to report to the user.
        check: whether to leave alone the results that appeared since the run began, which an earlier try has made.

    Raises:
        OutputError: If a local folder cannot be written.
        BackendError, CheckpointError, ParityError: If no engine can run the model.
    """
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
        groups = [_Group(part, Path(temporary)) for part in _parts(tasks)]
        fetching = {id(group): [] for group in groups}  # type: dict[int, list[Future[None]]]

        def fetch(group: _Group) -> None:
            fetching[id(group)] = [pool.submit(group.fetch, task, check=check) for task in group.tasks]

        putting: list[Future[None]] = []
        try:
            for index, group in enumerate(groups):
                if index == 0:
                    fetch(group)
                for future in fetching.pop(id(group)):
                    future.result()
                if index + 1 < len(groups):
                    fetch(groups[index + 1])
                reached += sum(task.size for task in group.tasks)
                reports, collected = _processed(pipeline, group, options, total, notify)
                finished = _added(finished, reports.values())
                finished = replace(finished, total_mp=finished.done_mp)
                for future in putting:
                    future.result()
                putting = [
                    pool.submit(_put, group, task, reports.get(task.number), collected, record) for task in group.tasks
                ]
            for future in putting:
                future.result()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _put(
    group: _Group, task: Task, report: ImageReport | None, collected: _Collected, record: Callable[[Result], None]
) -> None:
    if task.number in group.results:
        record(group.results[task.number])
    elif report is not None:
        record(group.put(task, report, collected.entries.get(group.jobs[task.number].target)))


def _processed(
    pipeline: ImagePipeline,
    group: _Group,
    options: RunOptions,
    progress: Callable[[Progress], None],
    notify: Callable[[str], None] | None,
) -> tuple[dict[int, ImageReport], _Collected]:
    """Run the sources of a group that were fetched; return the reports by the number of the task."""
    collected = _Collected(pipeline, options)
    numbers = {job.target: number for number, job in group.jobs.items()}
    reports: dict[int, ImageReport] = {}

    def record(report: ImageReport) -> None:
        reports[numbers[report.target]] = report

    jobs = [group.jobs[task.number] for task in group.tasks if task.number in group.jobs]
    if jobs:
        pipeline.process(jobs, options, collected, record=record, progress=progress, notify=notify)
    return reports, collected


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


def _parent(url: str) -> tuple[Store, str]:
    folder, _, name = url.rpartition("/")
    return open_store(folder), name


def _state(place: str) -> str | None:
    if is_url(place):
        store, name = _parent(place)
        return store.state(name)
    found = state_of(place)
    return None if found is None else f"{found.size}:{found.mtime_ns}"


def _finished(task: Task) -> ImageReport:
    """Report a result that an earlier try has written, as far as it can be known."""
    note = "its worker ended before it could report; the result is complete"
    return ImageReport(shown(task.source), shown(task.target), "done", notes=(note,))


def _named(report: ImageReport, task: Task, job: Job) -> ImageReport:
    """Return a report that names the source and the result where they are, not in the temporary folder."""

    def text(line: str) -> str:
        return line.replace(str(job.target), task.target).replace(str(job.source), task.source)

    return replace(
        report,
        source=shown(task.source),
        target=shown(task.target),
        error=None if report.error is None else text(report.error),
        notes=tuple(map(text, report.notes)),
    )


def _reason(error: Exception) -> str:
    return (error.strerror or first_line(error)) if isinstance(error, OSError) else first_line(error)
