"""Decide what a run over folders, URLs or both has to do, and keep its journal. Imports no torch."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from gankit.errors import GankitError, OutputError, UsageError
from gankit.pipeline.inputs import Inputs, collect
from gankit.pipeline.journal import Journal, state_of
from gankit.pipeline.notices import notices
from gankit.pipeline.output import prepare
from gankit.pipeline.resume import Decision, Resume
from gankit.pipeline.run_options import RunOptions
from gankit.pipeline.targets import Job
from gankit.storage.journal import Line, ObjectJournal
from gankit.storage.places import Places, stand_ins
from gankit.storage.stores import Local, Remote, Store
from gankit.storage.urls import any_url, as_path, is_url
from gankit.storage.work import Result, Task

if TYPE_CHECKING:
    from gankit.pipeline.images import ImagePipeline


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


@dataclass(frozen=True)
class Plan:
    """What a run has to do.

    Attributes:
        found: what the inputs hold.
        decisions: what to do with each image.
        places: the stand-ins of remote files.
        ledger: keeps the journal.
    """

    found: Inputs
    decisions: Sequence[Decision]
    places: Places
    ledger: Ledger

    @property
    def jobs(self) -> list[Job]:
        """The jobs to run."""
        return [each.job for each in self.decisions if each.run]


def make_plan(
    pipeline: ImagePipeline,
    inputs: Sequence[str | Path],
    output: str | Path | None,
    options: RunOptions,
    folder: Path,
) -> Plan:
    """Find the images and decide what to do with each. Nothing is decoded or written.

    Args:
        pipeline: the pipeline.
        inputs: files, folders and patterns, each a path or a URL.
        output: folder for the results, a path or a URL; ``None`` writes beside local inputs.
        options: the options of the run.
        folder: a temporary folder for stand-ins, which lives as long as the run.

    Raises:
        UsageError: If the inputs or the options are wrong.
    """
    places = Places(folder)
    output = None if output is None else as_path(output)
    given = [as_path(item) for item in inputs]
    remote = any_url([*given, output])
    if remote and output is None:
        raise UsageError("inputs that are URLs need --output, a folder or a URL")
    if remote and options.keep_time:
        raise UsageError("object stores keep no times; omit --keep-time")
    if options.compare:
        raise UsageError("--compare needs local inputs and no cluster; omit it")
    try:
        local = stand_ins(given, places)
        target = places.output(output) if isinstance(output, str) and is_url(output) else output
        mark = "" if output is not None else pipeline.mark(options)
        found = collect(
            local, target, suffix=options.suffix, format=options.format, overwrite=options.overwrite, mark=mark
        )
    except GankitError as error:
        if places.text(str(error)) == str(error):
            raise
        raise UsageError(places.text(str(error))) from None
    found = replace(found, unreadable=(*found.unreadable, *places.unreadable))
    ledger: Ledger = LocalLedger(pipeline, options)
    if remote:
        assert target is not None
        ledger = ObjectLedger(pipeline, options, places, Path(target))
    decisions = ledger.decide(found.jobs, overwrite=options.overwrite)
    if pipeline.notify:
        for line in notices(found, decisions):
            pipeline.notify(places.text(line))
    return Plan(found, decisions, places, ledger)


def _options(pipeline: ImagePipeline, options: RunOptions) -> Callable[[Path], Mapping[str, Any]]:
    own = pipeline.engines.options_of_results()
    return lambda target: {**own, **options.of_result(target)}


class LocalLedger:
    """The journals of local folders, which one process writes for all that work on the run.

    Args:
        pipeline: the pipeline.
        options: the options of the run.
    """

    def __init__(self, pipeline: ImagePipeline, options: RunOptions) -> None:
        self._resume = Resume(pipeline.engines.weights_sha256, _options(pipeline, options))
        self._journals: dict[Path, Journal] = {}

    def decide(self, jobs: Sequence[Job], *, overwrite: bool) -> list[Decision]:
        """Decide about each job."""
        decisions = self._resume.decide(jobs, overwrite=overwrite)
        self._resume.confirm(decisions)
        return decisions

    def task(self, number: int, job: Job) -> Task:
        """Return the task of a job."""
        now, size = state_of(job.target), state_of(job.source)
        before = None if now is None else f"{now.size}:{now.mtime_ns}"
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
            self._resume.begin(job)

    def finish(self, job: Job, result: Result) -> None:
        """Write the line of the worker to the journal."""
        if result.entry is not None:
            self._journals[job.target.parent].add(result.entry)

    def close(self) -> None:
        """Everything is written already."""


class ObjectLedger:
    """The journal of results that are made from or to URLs.

    Args:
        pipeline: the pipeline.
        options: the options of the run.
        places: the stand-ins.
        output: folder of the results, or its stand-in.
    """

    def __init__(self, pipeline: ImagePipeline, options: RunOptions, places: Places, output: Path) -> None:
        self._model, self._options = pipeline.engines.weights_sha256, _options(pipeline, options)
        self._places, self._output = places, output
        place = places.place(output)
        self._store: Store = Remote(place) if is_url(place) else Local(place)
        try:
            self._journal = ObjectJournal(self._store, places.folder)
            self._states = self._listed()
        except OSError as error:
            raise OutputError(f"{place}: cannot be read: {error}") from error

    def _listed(self) -> dict[str, str] | None:
        """Return the states of all results by name; ``None`` for a local folder, which is asked for each."""
        if not isinstance(self._store, Remote):
            return None
        return {item.name: item.state for item in self._store.present()}  # the first result makes the folder

    def _name(self, job: Job) -> str:
        return job.target.relative_to(self._output).as_posix()

    def _now(self, job: Job) -> str | None:
        name = self._name(job)
        return self._store.state(name) if self._states is None else self._states.get(name)

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
        size = item.size if item is not None else 0
        return Task(number, self._places.place(source), self._places.place(target), size, self._now(job))

    def begin(self, jobs: Sequence[Job]) -> None:
        """Write the journal, which shows whether the output can be written."""
        model = self._model()
        self._journal.begin([self._line(job, model) for job in jobs])

    def finish(self, job: Job, result: Result) -> None:
        """Note that a result was made."""
        self._journal.finish(self._name(job), result.made_by, result.written)

    def close(self) -> None:
        """Write the journal."""
        self._journal.close()


def tasks_of(plan: Plan) -> Iterable[Task]:
    """Return the tasks of the jobs to run, numbered in their order."""
    return (plan.ledger.task(number, job) for number, job in enumerate(plan.jobs))
