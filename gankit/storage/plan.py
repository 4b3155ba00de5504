"""Decide what a run over folders, URLs or both has to do, and keep its journal. Imports no torch."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from gankit.errors import GankitError, OutputError, UsageError
from gankit.pipeline.inputs import Inputs, NoInputError, collect
from gankit.pipeline.journal import Journal, state_of
from gankit.pipeline.notices import notices
from gankit.pipeline.output import check_inside, prepare, roots_of
from gankit.pipeline.paths import is_folder
from gankit.pipeline.resume import Decision, Resume
from gankit.pipeline.run_options import RunOptions
from gankit.pipeline.targets import Job
from gankit.storage.group import Result, Task
from gankit.storage.journal import Line, ObjectJournal
from gankit.storage.places import Places, stand_ins
from gankit.storage.stores import Local, Remote, Store
from gankit.storage.urls import any_url, as_path, is_url
from gankit.video.inputs import Clips, find_processed, is_clip, joined
from gankit.video.making import check_clips, clip_options, is_clip_target
from gankit.video.options import VIDEO_SUFFIXES, VideoOptions

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
        video: the options of clips.
    """

    found: Inputs
    decisions: Sequence[Decision]
    places: Places
    ledger: Ledger
    video: VideoOptions

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
    video: VideoOptions,
) -> Plan:
    """Find the images and clips and decide what to do with each. Nothing is decoded or written.

    Args:
        pipeline: the pipeline.
        inputs: files, folders and patterns, each a path or a URL.
        output: folder for the results, or the result of a single clip, a path or a URL; ``None`` writes beside local
            inputs.
        options: the options of the run.
        folder: a temporary folder for stand-ins, which lives as long as the run.
        video: the options of clips.

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

    def notify(line: str) -> None:
        if pipeline.notify:
            pipeline.notify(places.text(line))

    try:
        local = stand_ins(given, places)
        one = output is not None and Path(output).suffix.lower() in VIDEO_SUFFIXES and any(map(is_clip, local))
        target = places.output(output, file=one) if isinstance(output, str) and is_url(output) else output
        found, clips = _collect(pipeline, local, target, options, notify)
        if clips:
            check_clips(pipeline, clips, video)
        _keep_sources(found, places)
    except GankitError as error:
        if places.text(str(error)) == str(error):
            raise
        raise UsageError(places.text(str(error))) from None
    found = replace(found, unreadable=(*found.unreadable, *places.unreadable))
    chosen = _options(pipeline, options, video)
    ledger: Ledger = LocalLedger(pipeline, chosen, roots_of(target, found.places))
    if remote:
        assert target is not None
        file = one and not is_folder(target)
        ledger = ObjectLedger(pipeline, chosen, places, Path(target).parent if file else Path(target), listed=not file)
    decisions = ledger.decide(found.jobs, overwrite=options.overwrite)
    for line in notices(found, decisions):
        notify(line)
    return Plan(found, decisions, places, ledger, video)


def _collect(
    pipeline: ImagePipeline,
    inputs: Sequence[str | Path],
    output: str | Path | None,
    options: RunOptions,
    notify: Callable[[str], None],
) -> tuple[Inputs, Sequence[Job]]:
    """Find the images and the clips; return all of them, and the jobs of the clips."""
    mark = "" if output is not None else pipeline.mark(options)
    clips: Clips = find_processed(inputs, output, options, mark, notify)
    images: Inputs | None = None
    if clips.others or clips.found is None:
        try:
            images = collect(
                clips.others, output, suffix=options.suffix, format=options.format, overwrite=options.overwrite,
                mark=mark,
            )  # fmt: skip
        except NoInputError:
            if clips.found is None:
                raise
    return joined(images, clips), () if clips.found is None else clips.found.jobs


def _keep_sources(found: Inputs, places: Places) -> None:
    """Check that no result replaces an object that is a source. For local files, the search has checked it."""
    sources = {places.place(path) for path in (job.source for job in found.jobs) if path in places.objects}
    for job in found.jobs:
        if (place := places.place(job.target)) in sources:
            raise UsageError(f"{place}: the result of {job.source} would replace it; use another --output or --suffix")


def _options(pipeline: ImagePipeline, options: RunOptions, video: VideoOptions) -> Callable[[Path], Mapping[str, Any]]:
    """Return what returns the options that determine a result."""
    own = pipeline.engines.options_of_results()
    return lambda target: {
        **own,
        **(clip_options(options, video, target) if is_clip_target(target) else options.of_result(target)),
    }


class LocalLedger:
    """The journals of local folders, which one process writes for all that work on the run.

    Args:
        pipeline: the pipeline.
        options: returns the options that determine a result.
        roots: the output folders, out of which no link is followed.
    """

    def __init__(
        self, pipeline: ImagePipeline, options: Callable[[Path], Mapping[str, Any]], roots: Sequence[Path]
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
        options: returns the options that determine a result.
        places: the stand-ins.
        output: folder of the results, or its stand-in.
        listed: whether to list what the folder holds, in place of asking for each result.
    """

    def __init__(
        self,
        pipeline: ImagePipeline,
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
            self._states = self._listed() if listed else None
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


def tasks_of(plan: Plan) -> Iterable[Task]:
    """Return the tasks of the jobs to run, numbered in their order."""
    for number, job in enumerate(plan.jobs):
        task = plan.ledger.task(number, job)
        yield replace(task, video=plan.video) if is_clip_target(job.target) else task
