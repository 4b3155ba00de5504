"""Make the result of one clip, and report it. Imports neither PyAV nor torch before it makes one."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

from gankit.errors import ImageError, NotFiniteError, UsageError
from gankit.pipeline.items import Progress, error_message, failure
from gankit.pipeline.journal import plain_json, sha256_of, state_of
from gankit.pipeline.report import ImageReport, VideoReport, Waits
from gankit.pipeline.resume import Resume
from gankit.pipeline.run_options import RunOptions
from gankit.pipeline.targets import Job
from gankit.pipeline.workload import thread_counts
from gankit.video.library import library
from gankit.video.options import VIDEO_SUFFIXES, VideoOptions

if TYPE_CHECKING:
    from gankit.pipeline.images import ImagePipeline


def is_clip_target(target: Path) -> bool:
    """Whether a result is a clip, by its name."""
    return target.suffix.lower() in VIDEO_SUFFIXES


def clip_options(options: RunOptions, video: VideoOptions, target: Path) -> dict[str, Any]:
    """Return the options that determine the result of a clip, as in a journal."""
    return plain_json({**options.of_result(target), **video.of_result()})


def check_clips(pipeline: ImagePipeline, jobs: Sequence[Job], video: VideoOptions) -> None:
    """Check what can be checked before any clip is processed.

    Raises:
        UsageError: If the encoder is unknown, a container cannot hold it, or the model takes no colours.
    """
    from gankit.video.encode import check_container

    library()
    for target in {job.target.suffix.lower(): job.target for job in jobs}.values():
        check_container(target, video)
    if (facts := pipeline.facts).input_kind != "image":
        kind = "masks" if facts.input_kind == "mask" else "label maps"
        raise UsageError(f"{jobs[0].source}: '{facts.name}' takes {kind}, and clips hold none")


class ClipMaker:
    """Makes the results of clips, one after the other.

    Args:
        pipeline: the pipeline.
        options: the options of the run.
        video: the options of clips.
        resume: keeps the journals of the results.

    Attributes:
        starting: seconds in which the engine was loaded, which the report states apart.
        waits: how long the engine waited in all other seconds.
    """

    def __init__(self, pipeline: ImagePipeline, options: RunOptions, video: VideoOptions, resume: Resume) -> None:
        self._pipeline, self._options, self._video, self._resume = pipeline, options, video, resume
        self.starting, self.waits = 0.0, Waits(0.0, 0.0)

    def make(self, job: Job, progress: Callable[[Progress], None] | None = None) -> ImageReport:
        """Make one result.

        Args:
            job: the clip and its result, whose folder exists.
            progress: called with the state of the clip, from any thread, one call at a time.

        Returns:
            Its report, ``"failed"`` if it cannot be processed.

        Raises:
            OutputError: If the folder cannot be written.
            BackendError, CheckpointError, ParityError: If no engine can run the model.
        """
        began, starting = perf_counter(), self.starting
        try:
            report, writing = self._made(job, progress)
        except (ImageError, NotFiniteError, MemoryError) as error:
            report, writing = failure(job, error_message(job, error), None), 0.0
        elapsed = perf_counter() - began - (self.starting - starting)
        reading = max(0.0, elapsed - writing - report.engine_seconds)
        self.waits += Waits(reading, writing)
        return report

    def _made(self, job: Job, progress: Callable[[Progress], None] | None) -> tuple[ImageReport, float]:
        """Make one result. Return its report, and the seconds in which the engine waited for the encoder."""
        from gankit.video.clip import probe
        from gankit.video.encode import check_encoder, plan_for
        from gankit.video.join import join
        from gankit.video.run import ClipRun
        from gankit.video.segments import WorkFolder

        self._resume.before_reading(job.source)
        clip, facts = probe(job.source), self._pipeline.facts
        if clip.width * clip.height > self._options.max_pixels:
            raise ImageError(job.source, f"a frame has {clip.width}×{clip.height} pixels; use a larger --max-pixels")
        size = self._options.size
        plan = plan_for(clip, job.target, self._video, size.of((clip.width, clip.height), facts.scale))
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
                network=self._pipeline,
                batch=self._pipeline.engines.largest_batch,
                scale=facts.scale,
                size=size,
                segment=self._video.segment,
                max_bytes=thread_counts(self._pipeline.engine.max_memory)["max_bytes"],
                progress=progress,
            )
            try:
                done = run.run()
                ended = perf_counter()
                self._resume.after_reading(job.source)
                made_by = self._made_by()
                self._resume.begin(job, made_by)
                notes = join(clip, plan, work, metadata=not self._options.strip_metadata)
            except ImageError:
                work.clear()
                raise
            if self._options.keep_time:
                with suppress(OSError):  # the source is gone, or the file system stores no times
                    found = job.source.stat()
                    os.utime(job.target, ns=(found.st_atime_ns, found.st_mtime_ns))
            self._resume.finish(job, made_by)
            work.clear()
        seconds, writing = perf_counter() - began, done.waited_seconds + perf_counter() - ended
        report = ImageReport(
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
        return report, writing

    def _start(self, pixels: int) -> None:
        began = perf_counter()
        self._pipeline.engines.fast(pixels)
        self.starting += perf_counter() - began

    def _identity(self, job: Job, plan: Mapping[str, Any]) -> dict[str, Any]:
        """Return everything that determines the segments of a result."""
        state, engines = state_of(job.source), self._pipeline.engines
        return {
            "source": sha256_of(job.source),
            "state": None if state is None else asdict(state),
            "weights": engines.weights_sha256(),
            "options": {**engines.options_of_results(), **clip_options(self._options, self._video, job.target)},
            "segment": self._video.segment,
            "plan": plan,
            "library": library().__version__,
        }

    def _made_by(self) -> dict[str, Any]:
        """Return what made the frames, for the journal; nothing if an earlier run had made all of them."""
        if (engine := self._pipeline.engines.report()) is None:
            return {}
        return {name: getattr(engine, name) for name in ("backend", "precision", "device", "tile")}

    def _unsupported(self) -> tuple[str, ...]:
        """Return a sentence for each option that clips do not have."""
        names = (name for name in ("mark_ai", "compare") if getattr(self._options, name))
        return tuple(f"--{name.replace('_', '-')} has no effect on clips" for name in names)
