"""Decide about each result by a journal, and keep it, in local folders or in one of a store. Imports no torch."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from gankit.errors import OutputError
from gankit.pipeline.journal import Journal, state_of
from gankit.pipeline.output import check_inside, prepare
from gankit.pipeline.resume import Decision, Resume
from gankit.pipeline.targets import Job
from gankit.storage.group import Result, Task
from gankit.storage.journal import Line, ObjectJournal
from gankit.storage.places import Places
from gankit.storage.stores import Local, Object, Remote, Store, local_object
from gankit.storage.urls import is_url

if TYPE_CHECKING:
    from gankit.pipeline.file_pipeline import FilePipeline


class Ledger(Protocol):
    """Decides what to do, and keeps what was done."""

    def decide(self, jobs: Sequence[Job], *, overwrite: bool) -> list[Decision]:
        """Decide about each job."""

    def task(self, number: int, job: Job) -> Task:
        """Return the task of a job."""

    def begin(self, jobs: Sequence[Job]) -> None:
        """Write that the results of some jobs are about to be made."""

    def finish(self, job: Job, result: Result) -> None:
        """Write that a result was made."""

    def close(self) -> None:
        """Write what is not written yet."""

    @property
    def shared(self) -> str | None:
        """URL of the folder of the results, if other runs may write to it at the same time and claims can be made."""


class LocalLedger:
    """The journals of local folders, which one process writes for all that work on the run.

    Args:
        pipeline: the pipeline.
        options: returns the options that determine a result.
        roots: the output folders, out of which no link is followed.
    """

    def __init__(
        self, pipeline: FilePipeline, options: Callable[[Path], Mapping[str, Any]], roots: Sequence[Path]
    ) -> None:
        self._resume = Resume(pipeline.engines.weights_sha256, options, roots)
        self._journals: dict[Path, Journal] = {}

    def decide(self, jobs: Sequence[Job], *, overwrite: bool) -> list[Decision]:
        """Decide about each job."""
        decisions = self._resume.decide(jobs, overwrite=overwrite)
        self._resume.confirm(decisions)
        return decisions

    def task(self, number: int, job: Job) -> Task:
        """Return the task of a job."""
        size, now = state_of(job.source), self._resume.before(job)
        before = None if now is None else local_object(job.target.name, now).stamp
        source, target = os.path.abspath(job.source), os.path.abspath(job.target)  # noqa: PTH100 - as in the journal
        return Task(number, source, target, 0 if size is None else size.size, before)

    def begin(self, jobs: Sequence[Job]) -> None:
        """Create the folders, and write that the results are about to be made.

        Raises:
            OutputError: If a folder cannot be written.
        """
        for folder in {job.target.parent for job in jobs}:
            prepare(folder)
            self._journals[folder] = Journal(folder)
        for job in jobs:
            self._resume.before_reading(job.source)
            self._resume.announce(job)

    def finish(self, job: Job, result: Result) -> None:
        """Write the line of the worker to the journal."""
        if result.entry is not None:
            self._journals[job.target.parent].add(result.entry)

    def close(self) -> None:
        """Everything is written already."""

    @property
    def shared(self) -> str | None:
        """``None``: there are no claims in local folders."""
        return None


class ObjectLedger:
    """The journal of results that are made from or to URLs.

    Args:
        pipeline: the pipeline.
        options: returns the options that determine a result.
        places: the stand-ins.
        output: folder of the results, or its stand-in.
        listed: whether to list what the folder holds, in place of asking for each result.
    """

    def __init__(
        self,
        pipeline: FilePipeline,
        options: Callable[[Path], Mapping[str, Any]],
        places: Places,
        output: Path,
        *,
        listed: bool = True,
    ) -> None:
        self._model, self._options = pipeline.engines.weights_sha256, options
        self._places, self._output = places, output
        place = places.place(output)
        self._store: Store = Remote(place) if is_url(place) else Local(place)
        try:
            self._journal = ObjectJournal(self._store, places.folder)
            self._there = self._listed() if listed else {}
        except OSError as error:
            raise OutputError(f"{place}: cannot be read: {error}") from error

        self._complete = listed and isinstance(self._store, Remote)

    def _listed(self) -> dict[str, Object | None]:
        """Return all results by name; nothing for a local folder, which is asked for each."""
        if not isinstance(self._store, Remote):
            return {}
        return {item.name: item for item in self._store.present()}  # the first result makes the folder

    def _name(self, job: Job) -> str:
        return job.target.relative_to(self._output).as_posix()

    def _found(self, job: Job) -> Object | None:
        """Return what was in the place of a result when it was decided about it."""
        name = self._name(job)
        if name not in self._there and not self._complete:
            self._there[name] = self._store.find(name)
        return self._there.get(name)

    def _now(self, job: Job) -> str | None:
        found = self._found(job)
        return None if found is None else found.state

    def _line(self, job: Job, model: str = "") -> Line:
        item = self._places.objects.get(job.source)
        local = state_of(job.source)
        state = item.state if item is not None else f"{local.size}:{local.mtime_ns}" if local else ""
        source = self._places.place(job.source if item is not None else job.source.absolute())
        return Line(self._name(job), source, state, model, self._options(job.target), before=self._now(job))

    def decide(self, jobs: Sequence[Job], *, overwrite: bool) -> list[Decision]:
        """Decide about each job."""
        journal, model = self._journal, self._model
        return [journal.decide(job, self._line(job), self._now(job), model, overwrite=overwrite) for job in jobs]

    def task(self, number: int, job: Job) -> Task:
        """Return the task of a job."""
        item = self._places.objects.get(job.source)
        source, target = (
            path if path in self._places.objects else path.absolute() for path in (job.source, job.target)
        )
        local = state_of(job.source) if item is None else None
        size, found = item.size if item is not None else local.size if local is not None else 0, self._found(job)
        before = None if found is None else found.stamp
        return Task(number, self._places.place(source), self._places.place(target), size, before)

    def begin(self, jobs: Sequence[Job]) -> None:
        """Write the journal, which shows whether the output can be written.

        Raises:
            OutputError: If it cannot, or a link leads out of the output folder.
        """
        model = self._model()
        if isinstance(self._store, Local):
            for folder in {job.target.parent for job in jobs}:
                check_inside(folder, [self._output])
        self._journal.begin([self._line(job, model) for job in jobs])

    def finish(self, job: Job, result: Result) -> None:
        """Note that a result was made."""
        self._journal.finish(self._name(job), result.made_by, result.written)

    def close(self) -> None:
        """Write the journal."""
        self._journal.close()

    @property
    def shared(self) -> str | None:
        """URL of the folder of the results; ``None`` if it is local."""
        return self._store.root if isinstance(self._store, Remote) else None
