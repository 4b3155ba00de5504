"""Run files and folders that hold images, clips, or both. Imports neither PyAV nor torch before a clip is found."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext, suppress
from dataclasses import replace
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

from gankit.pipeline.inputs import NoInputError
from gankit.pipeline.items import Progress
from gankit.pipeline.notices import notices
from gankit.pipeline.output import no_empty_folders, prepare, remove_stale, roots_of
from gankit.pipeline.records import Records
from gankit.pipeline.report import ImageReport, Report, Waits, versions
from gankit.pipeline.resume import Decision, Resume
from gankit.pipeline.run_options import RunKeywords, RunOptions
from gankit.pipeline.sharing import Sharing
from gankit.pipeline.targets import Job
from gankit.video.inputs import Clips, find_processed
from gankit.video.making import ClipMaker, check_clips, clip_options
from gankit.video.options import VideoOptions

if TYPE_CHECKING:
    from typing import Unpack

    from gankit.pipeline.images import ImagePipeline

_Listener = Callable[[ImageReport], None] | None


def run_files(
    pipeline: ImagePipeline,
    inputs: Sequence[str | Path] | str | Path,
    output: str | Path | None = None,
    *,
    video: VideoOptions | None = None,
    progress: Callable[[Progress], None] | None = None,
    failed: Callable[[ImageReport], None] | None = None,
    each: Callable[[ImageReport], None] | None = None,
    **options: Unpack[RunKeywords],
) -> Report:
    """Run files and folders of images and clips: first the images, then the clips.

    Args:
        pipeline: an :class:`~gankit.Upscaler` or a :class:`~gankit.Translator`.
        inputs: as for :meth:`ImagePipeline.run <gankit.pipeline.images.ImagePipeline.run>`.
        output: folder for the results, or the file of the result if the only input is a clip. ``None`` writes the
            results beside their sources.
        video: the options of clips.
        progress: called with the state of the run, from any thread, one call at a time. While a clip is processed, it
            is a :class:`gankit.video.progress.ClipProgress`, which counts frames.
        failed: called with the report of each image or clip that fails.
        each: called with the report of each image or clip.
        options: the fields of :class:`gankit.pipeline.run_options.RunOptions`. Some concern images only.

    Returns:
        The report of the run, which is also that of the pipeline.

    Raises:
        UsageError: If the inputs or the options are wrong, or PyAV is not installed and a clip is named.
        OutputError: If the output cannot be written.
        BackendError, CheckpointError, ParityError: If no engine can run the model.
    """
    clips = _found(pipeline, inputs, output, chosen := RunOptions(**options))
    if clips.found is None:
        return pipeline.run(inputs, output, progress=progress, failed=failed, each=each, **options)
    run = _Clips(pipeline, clips, chosen, video or VideoOptions(), output)
    check_clips(pipeline, clips.found.jobs, run.video)
    images: Report | None = None
    if clips.others:
        with suppress(NoInputError):  # the folders hold only clips
            images = pipeline.run(clips.others, output, progress=progress, failed=failed, each=each, **options)
    if images is not None:
        run.found = replace(run.found, unreadable=())  # the images have reported these folders
    try:
        run.run(output, progress, failed, each)
    finally:
        pipeline.report = run.report if images is None else _joined(images, run.report, clips.in_folders)
    assert pipeline.report is not None
    return pipeline.report


def plan_files(
    pipeline: ImagePipeline,
    inputs: Sequence[str | Path] | str | Path,
    output: str | Path | None = None,
    *,
    video: VideoOptions | None = None,
    **options: Unpack[RunKeywords],
) -> list[Decision]:
    """Return what :func:`run_files` would do, without decoding or writing anything.

    Args:
        pipeline: as for :func:`run_files`, as are the other arguments.
        inputs: see there.
        output: see there.
        video: see there.
        options: see there.
    """
    chosen, video = RunOptions(**options), video or VideoOptions()
    clips = _found(pipeline, inputs, output, chosen)
    if clips.found is None:
        return pipeline.plan(inputs, output, **options)
    run = _Clips(pipeline, clips, chosen, video, output)
    check_clips(pipeline, clips.found.jobs, run.video)
    images: list[Decision] = []
    if clips.others:
        with suppress(NoInputError):
            images = pipeline.plan(clips.others, output, **options)
    return [*images, *run.decisions()]


def _found(
    pipeline: ImagePipeline, inputs: Sequence[str | Path] | str | Path, output: str | Path | None, chosen: RunOptions
) -> Clips:
    mark = "" if output is not None else pipeline.mark(chosen)
    return find_processed(inputs, output, chosen, mark, pipeline.notify)


def _joined(images: Report, clips: Report | None, in_folders: int) -> Report:
    """Return one report of the images and the clips, of which those in folders are no ignored files."""
    sources = {clip.source for clip in clips.images} if clips else set()
    named = tuple(path for path in images.ignored_files if path not in sources)
    images = replace(images, ignored=max(0, images.ignored - in_folders), ignored_files=named)
    if clips is None:
        return images
    return replace(
        clips, images=(*images.images, *clips.images), ignored=images.ignored, ignored_files=named,
        unread=images.unread, seconds=images.seconds + clips.seconds, machine=clips.machine or images.machine,
        versions={**images.versions, **clips.versions}, waits=_sum(images, clips),
    )  # fmt: skip


def _sum(images: Report, clips: Report) -> Waits | None:
    """Return how long the engine waited in both; a run that had nothing to do measured nothing."""
    if images.waits is None or clips.waits is None:
        return clips.waits if images.seconds == 0 else images.waits if clips.seconds == 0 else None
    return images.waits + clips.waits


class _Clips:
    """The clips of one run.

    Args:
        pipeline: the pipeline.
        clips: the clips that were found.
        options: the options of the run.
        video: the options of clips.
        output: as for :func:`run_files`.
    """

    def __init__(
        self,
        pipeline: ImagePipeline,
        clips: Clips,
        options: RunOptions,
        video: VideoOptions,
        output: str | Path | None,
    ) -> None:
        assert clips.found is not None
        self.pipeline, self.found, self.options, self.video = pipeline, clips.found, options, video
        own, weights = pipeline.engines.options_of_results(), pipeline.engines.weights_sha256
        roots = roots_of(output, clips.found.places)
        self.resume = Resume(weights, lambda target: {**own, **clip_options(options, video, target)}, roots)
        self.maker = ClipMaker(pipeline, options, video, self.resume)
        self.alone = not clips.others
        self.report: Report | None = None

    def decisions(self) -> list[Decision]:
        """Decide what to do with each clip, and say what the user should know."""
        decisions = self.resume.decide(self.found.jobs, overwrite=self.options.overwrite)
        if self.pipeline.notify is not None:
            places = self.found.places if self.alone else tuple(path for path in self.found.places if path.suffix)
            for line in notices(replace(self.found, places=places), decisions):
                self.pipeline.notify(line)
        return decisions

    def run(
        self, output: str | Path | None, progress: Callable[[Progress], None] | None, failed: _Listener, each: _Listener
    ) -> None:
        """Run the clips one after the other. :attr:`report` holds what was done, also if an error ends the run."""
        decisions = self.decisions()
        self.resume.confirm(decisions)
        again = {one.job.source: one.change for one in decisions if one.change is not None}
        records = Records(self.found, Path(output or "."), failed, self.pipeline.notify, again, each)
        for one in decisions:
            if not one.run:
                records.add(ImageReport(one.job.source, one.job.target, "skipped" if one.up_to_date else "kept"))
        todo = [one.job for one in decisions if one.run]
        began = perf_counter()
        folders = sorted({job.target.parent for job in todo})
        try:
            if todo:
                self.pipeline.engines.check()
            with no_empty_folders(folders):
                for folder in folders:
                    prepare(folder)
                    remove_stale(folder)
                self._make(todo, records, progress)
        finally:
            self.report = self._report(records, perf_counter() - began - self.maker.starting)

    def _make(self, todo: Sequence[Job], records: Records, progress: Callable[[Progress], None] | None) -> None:
        """Make the results that no other run makes."""
        with self.resume.claims() or nullcontext() as claims:
            sharing = Sharing(self.resume, claims, records.add)
            while todo:
                for job in todo:
                    if sharing.claim(job):
                        records.add(self.maker.make(job, progress))
                        sharing.release(job.target)
                began = perf_counter()
                todo = sharing.after_others(self.pipeline.notify)
                self.maker.waits += Waits(perf_counter() - began, 0.0)

    def _report(self, records: Records, seconds: float) -> Report:
        return Report(
            images=records.images(),
            ignored=self.found.ignored,
            ignored_files=self.found.ignored_files,
            seconds=seconds,
            engine=(engines := self.pipeline.engines).report(),
            fp32_engine=engines.exact_report(),
            model=engines.model_report(),
            versions=versions((*engines.packages(), "av")),
            machine=engines.machine(),
            waits=self.maker.waits,
        )
