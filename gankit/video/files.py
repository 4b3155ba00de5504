"""Run files and folders that hold images, clips, or both. Imports neither PyAV nor torch before a clip is found."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

from gankit.errors import ImageError, NotFiniteError, UsageError
from gankit.pipeline.inputs import NoInputError
from gankit.pipeline.items import Progress, error_message, failure
from gankit.pipeline.journal import plain_json, sha256_of, state_of
from gankit.pipeline.notices import notices
from gankit.pipeline.output import no_empty_folders, prepare, remove_stale
from gankit.pipeline.records import Records
from gankit.pipeline.report import ImageReport, Report, VideoReport, versions
from gankit.pipeline.resume import Decision, Resume
from gankit.pipeline.run_options import RunKeywords, RunOptions
from gankit.pipeline.targets import Job
from gankit.pipeline.workload import thread_counts
from gankit.video.inputs import Clips, find_clips
from gankit.video.library import MISSING, is_installed, library
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
    run = _Clips(pipeline, clips, chosen, video or VideoOptions())
    run.check()
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
    run = _Clips(pipeline, clips, chosen, video)
    run.check()
    images: list[Decision] = []
    if clips.others:
        with suppress(NoInputError):
            images = pipeline.plan(clips.others, output, **options)
    return [*images, *run.decisions()]


def _found(
    pipeline: ImagePipeline, inputs: Sequence[str | Path] | str | Path, output: str | Path | None, chosen: RunOptions
) -> Clips:
    """Find the clips. Without PyAV, those in folders are left out, and a line says so."""
    mark = "" if output is not None else pipeline.mark(chosen)
    clips = find_clips(inputs, output, chosen, mark)
    if clips.found is None or is_installed():
        return clips
    first = clips.found.jobs[0].source
    if clips.named:
        raise UsageError(f"{first}: {MISSING}")
    if pipeline.notify is not None:
        more = f" and {len(clips.found.jobs) - 1} more clips are" if len(clips.found.jobs) > 1 else " is"
        pipeline.notify(f"{first}{more} not processed: {MISSING}")
    return Clips(None, clips.others)


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
        versions={**images.versions, **clips.versions},
    )  # fmt: skip


class _Clips:
    """The clips of one run.

    Args:
        pipeline: the pipeline.
        clips: the clips that were found.
        options: the options of the run.
        video: the options of clips.
    """

    def __init__(self, pipeline: ImagePipeline, clips: Clips, options: RunOptions, video: VideoOptions) -> None:
        assert clips.found is not None
        self.pipeline, self.found, self.options, self.video = pipeline, clips.found, options, video
        own, weights = pipeline.engines.options_of_results(), pipeline.engines.weights_sha256
        self.resume = Resume(weights, lambda target: {**own, **self._of_result(target)})
        self.alone, self._starting = not clips.others, 0.0
        self.report: Report | None = None

    def _of_result(self, target: Path) -> dict[str, Any]:
        return plain_json({**self.options.of_result(target), **self.video.of_result()})

    def check(self) -> None:
        """Check what can be checked before any image is processed.

        Raises:
            UsageError: If the encoder is unknown, a container cannot hold it, or the model takes no colours.
        """
        from gankit.video.encode import check_container

        library()
        for target in {job.target.suffix.lower(): job.target for job in self.found.jobs}.values():
            check_container(target, self.video)
        if (facts := self.pipeline.facts).input_kind != "image":
            kind = "masks" if facts.input_kind == "mask" else "label maps"
            raise UsageError(f"{self.found.jobs[0].source}: '{facts.name}' takes {kind}, and clips hold none")

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
                for job in todo:
                    records.add(self._one(job, progress))
        finally:
            self.report = self._report(records, perf_counter() - began - self._starting)

    def _one(self, job: Job, progress: Callable[[Progress], None] | None) -> ImageReport:
        """Run one clip and return its report, ``"failed"`` if it cannot be processed."""
        try:
            return self._made(job, progress)
        except (ImageError, NotFiniteError, MemoryError) as error:
            return failure(job, error_message(job, error), None)

    def _made(self, job: Job, progress: Callable[[Progress], None] | None) -> ImageReport:
        from gankit.video.clip import probe
        from gankit.video.encode import check_encoder, plan_for
        from gankit.video.join import join
        from gankit.video.run import ClipRun
        from gankit.video.segments import WorkFolder

        self.resume.before_reading(job.source)
        clip, facts = probe(job.source), self.pipeline.facts
        if clip.width * clip.height > self.options.max_pixels:
            raise ImageError(job.source, f"a frame has {clip.width}×{clip.height} pixels; use a larger --max-pixels")
        size = self.options.size
        plan = plan_for(clip, job.target, self.video, size.of((clip.width, clip.height), facts.scale))
        check_encoder(plan)
        work = WorkFolder(job.target)
        self._start(clip.width * clip.height * clip.packets)
        began = perf_counter()
        with work.locked():
            work.begin(self._identity(job, plan.identity()))
            run = ClipRun(
                clip=clip,
                plan=plan,
                work=work,
                network=self.pipeline,
                batch=self.pipeline.engines.largest_batch,
                scale=facts.scale,
                size=size,
                segment=self.video.segment,
                max_bytes=thread_counts(self.pipeline.engine.max_memory)["max_bytes"],
                progress=progress,
            )
            try:
                done = run.run()
                self.resume.after_reading(job.source)
                made_by = self._made_by()
                self.resume.begin(job, made_by)
                notes = join(clip, plan, work, metadata=not self.options.strip_metadata)
            except ImageError:
                work.clear()
                raise
            if self.options.keep_time:
                with suppress(OSError):  # the source is gone, or the file system stores no times
                    found = job.source.stat()
                    os.utime(job.target, ns=(found.st_atime_ns, found.st_mtime_ns))
            self.resume.finish(job, made_by)
            work.clear()
        seconds = perf_counter() - began
        return ImageReport(
            job.source,
            job.target,
            "done",
            input_size=(clip.width, clip.height),
            output_size=(plan.width, plan.height),
            decode_seconds=done.decode_seconds,
            engine_seconds=done.engine_seconds,
            encode_seconds=done.encode_seconds,
            notes=(*clip.notes, *plan.notes, *self._unsupported(), *notes),
            frames=done.frames - done.resumed,
            video=VideoReport(done.frames, done.computed, done.resumed, seconds, plan.encoder, plan.pixel_format),
        )

    def _start(self, pixels: int) -> None:
        """Load the engine, whose time the report states apart."""
        began = perf_counter()
        self.pipeline.engines.fast(pixels)
        self._starting += perf_counter() - began

    def _identity(self, job: Job, plan: dict[str, Any]) -> dict[str, Any]:
        """Return everything that determines the segments of a result."""
        state = state_of(job.source)
        return {
            "source": sha256_of(job.source),
            "state": None if state is None else asdict(state),
            "weights": self.pipeline.engines.weights_sha256(),
            "options": {**self.pipeline.engines.options_of_results(), **self._of_result(job.target)},
            "segment": self.video.segment,
            "plan": plan,
            "library": library().__version__,
        }

    def _made_by(self) -> dict[str, Any]:
        """Return what made the frames, for the journal; nothing if an earlier run had made all of them."""
        if (engine := self.pipeline.engines.report()) is None:
            return {}
        return {name: getattr(engine, name) for name in ("backend", "precision", "device", "tile")}

    def _unsupported(self) -> tuple[str, ...]:
        """Return a sentence for each option that clips do not have."""
        names = (name for name in ("mark_ai", "compare") if getattr(self.options, name))
        return tuple(f"--{name.replace('_', '-')} has no effect on clips" for name in names)

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
        )
