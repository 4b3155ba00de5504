"""Tasks, and their files in a temporary folder: sources are fetched to it, and results are put to their places."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from time import perf_counter
from types import MappingProxyType
from typing import Any, Literal

from gankit.errors import GankitError, first_line
from gankit.pipeline.folder_claims import FolderClaims
from gankit.pipeline.journal import Entry, sha256_of, state_of
from gankit.pipeline.report import ImageReport, Waits
from gankit.pipeline.resume import Resume
from gankit.pipeline.targets import Job
from gankit.storage.claims import Claim
from gankit.storage.stores import Local, Object, Store, open_store
from gankit.storage.urls import is_url, shown
from gankit.video.options import VideoOptions


@dataclass(frozen=True)
class Task:
    """One image or clip to process, wherever it is.

    Attributes:
        number: number of the task in its run.
        source: path or URL of the source.
        target: path or URL of the result.
        size: bytes of the source.
        before: stamp of the file in the place of the result when it was decided to make it; ``None`` if there was none.
        video: the options of clips if it is one; ``None`` for an image.
        claim: the claim to make on the result; ``None`` if no other run can be at work on it.
    """

    number: int
    source: str
    target: str
    size: int = 0
    before: str | None = None
    video: VideoOptions | None = None
    claim: Claim | None = None


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


@dataclass(frozen=True)
class Busy:
    """How long some tasks took.

    Attributes:
        seconds: time from the first fetch to the last write, without the start of the engine.
        waits: how long the engine waited in these seconds. It also waits for sources to be fetched, and for results to
            be put to their places.
    """

    seconds: float = 0.0
    waits: Waits = field(default_factory=lambda: Waits(0.0, 0.0))

    def __add__(self, other: Busy) -> Busy:
        return Busy(self.seconds + other.seconds, self.waits + other.waits)

    def within(self, seconds: float) -> Waits | None:
        """Return how long the engine waited in a run of so many seconds, in which it was as busy as in these."""
        if self.seconds <= 0:
            return None
        part = seconds / self.seconds
        return Waits(self.waits.decode_seconds * part, self.waits.encode_seconds * part)


class Kept(Resume):
    """Keeps the journal's entries of the results in place of writing them. Arguments are those of Resume."""

    def __init__(self, model: Callable[[], str], options: Callable[[Path], Mapping[str, Any]]) -> None:
        super().__init__(model, options)
        self.entries: dict[Path, Entry] = {}

    def claims(self) -> None:
        """Return ``None``: whoever gives the tasks has claimed their results."""

    def begin(self, job: Job, made_by: Mapping[str, Any] = MappingProxyType({})) -> None:
        """Write nothing."""

    def finish(self, job: Job, made_by: Mapping[str, Any] = MappingProxyType({})) -> None:
        """Keep the entry."""
        entry, target = self._entry(job, made_by), job.target
        self.entries[target] = replace(entry, written=state_of(target), written_sha256=sha256_of(target))


@dataclass
class Group:
    """Some tasks, with their files in the temporary folder.

    Attributes:
        tasks: the tasks.
        folder: the temporary folder.
        local: the claims on local results.
        jobs: the files of the tasks that were fetched.
        results: the results that are known without a run.
        seconds: how long it took to fetch the sources.
        claimed: the tasks that other runs have claimed.
    """

    tasks: Sequence[Task]
    folder: Path
    local: FolderClaims
    jobs: dict[int, Job] = field(default_factory=dict)
    results: dict[int, Result] = field(default_factory=dict)
    seconds: dict[int, float] = field(default_factory=dict)
    claimed: list[Task] = field(default_factory=list)

    def fetch(self, task: Task, *, check: bool) -> None:
        """Bring a source into the temporary folder, unless it is local."""
        began, target = perf_counter(), Path(task.target)
        try:
            taken = self._take(task)
            if taken == "other":
                self.claimed.append(task)
                return
            if (now := file_at(task.target)) is not None and now.stamp != task.before:
                report = finished(task) if taken == "own" or (check and task.claim is None) else made_elsewhere(task)
                self.results[task.number] = Result(task.number, report, written=now.state)
                self._release(task)
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
        report = ImageReport(shown(task.source), shown(task.target), "failed", error=error)
        self.results[task.number] = Result(task.number, report)
        self._release(task, failed=True)

    def _take(self, task: Task) -> Literal["new", "own", "other"]:
        if task.claim is not None:
            return task.claim.take()
        return "new" if is_url(task.target) or self.local.take(Path(task.target)) else "other"

    def _release(self, task: Task, *, failed: bool = False) -> None:
        """Give up a claim. Those in stores are kept to the end of the run, unless the task failed."""
        if task.claim is None:
            self.local.release(Path(task.target))
        elif failed:
            task.claim.release()

    def put(self, task: Task, report: ImageReport, entry: Entry | None) -> Result:
        """Put a result to its place, and remove what is in the temporary folder."""
        job, began, written = self.jobs[task.number], perf_counter(), None
        report = _named(report, task, job)
        if report.status == "done":
            try:
                if is_url(task.target):
                    store, name = _parent(task.target)
                    store.put(job.target, name)
                found = file_at(task.target)
                written = None if found is None else found.state
            except (OSError, GankitError) as error:
                why = f"{task.target}: cannot be written: {_reason(error)}"
                report = replace(report, status="failed", error=why, output_size=None)
        report = replace(
            report,
            decode_seconds=report.decode_seconds + self.seconds[task.number],
            encode_seconds=report.encode_seconds + perf_counter() - began,
        )
        self.clear(task)
        self._release(task, failed=report.status == "failed")
        made_by = {} if entry is None else entry.made_by
        return Result(task.number, report, made_by, written, entry if report.status == "done" else None)

    def clear(self, task: Task) -> None:
        """Remove what a task has in the temporary folder."""
        shutil.rmtree(self.folder / str(task.number), ignore_errors=True)


def _parent(url: str) -> tuple[Store, str]:
    folder, _, name = url.rpartition("/")
    return open_store(folder), name


def file_at(place: str) -> Object | None:
    """Return a file or an object; ``None`` if there is none."""
    if is_url(place):
        store, name = _parent(place)
        return store.find(name)
    return Local(str(Path(place).parent)).find(Path(place).name)


def finished(task: Task) -> ImageReport:
    """Report a result that an earlier try has written, as far as it can be known."""
    note = "its worker ended before it could report; the result is complete"
    return ImageReport(shown(task.source), shown(task.target), "done", notes=(note,))


def made_elsewhere(task: Task) -> ImageReport:
    """Report a result that another run has made meanwhile."""
    return ImageReport(shown(task.source), shown(task.target), "skipped")


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
