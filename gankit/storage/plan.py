"""Decide what a run over folders, URLs or both has to do, and keep its journal. Imports no torch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from gankit.errors import GankitError, UsageError
from gankit.pipeline.inputs import Inputs, NoInputError, collect
from gankit.pipeline.notices import notices
from gankit.pipeline.output import roots_of
from gankit.pipeline.paths import is_folder
from gankit.pipeline.resume import Decision
from gankit.pipeline.run_options import RunOptions
from gankit.pipeline.targets import Job
from gankit.storage.group import Task
from gankit.storage.ledgers import Ledger, LocalLedger, ObjectLedger
from gankit.storage.places import Places, stand_ins
from gankit.storage.urls import any_url, as_path, is_url
from gankit.video.inputs import Clips, find_processed, is_clip, joined
from gankit.video.making import check_clips, clip_options, is_clip_target
from gankit.video.options import VIDEO_SUFFIXES, VideoOptions

if TYPE_CHECKING:
    from gankit.pipeline.file_pipeline import FilePipeline
    from gankit.pipeline.images import ImagePipeline


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
    pipeline: FilePipeline,
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
            check_clips(cast("ImagePipeline", pipeline), clips, video)
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
    pipeline: FilePipeline,
    inputs: Sequence[str | Path],
    output: str | Path | None,
    options: RunOptions,
    notify: Callable[[str], None],
) -> tuple[Inputs, Sequence[Job]]:
    """Find the images and the clips; return all of them, and the jobs of the clips."""
    mark = "" if output is not None else pipeline.mark(options)
    clips = Clips(None, tuple(inputs))
    if pipeline.takes_clips:
        clips = find_processed(inputs, output, options, mark, notify)
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


def _options(pipeline: FilePipeline, options: RunOptions, video: VideoOptions) -> Callable[[Path], Mapping[str, Any]]:
    """Return what returns the options that determine a result."""
    own = pipeline.engines.options_of_results()
    return lambda target: {
        **own,
        **(clip_options(options, video, target) if is_clip_target(target) else options.of_result(target)),
    }


def tasks_of(plan: Plan) -> Iterable[Task]:
    """Return the tasks of the jobs to run, numbered in their order."""
    for number, job in enumerate(plan.jobs):
        task = plan.ledger.task(number, job)
        yield replace(task, video=plan.video) if is_clip_target(job.target) else task
