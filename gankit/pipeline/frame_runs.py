"""Run animations and multi-page files frame by frame. Imports no torch.

Each file is read twice. The first time every frame is decoded, which finds damaged frames before any work is done, the
frames that are equal to the one before them, and the channels of the result. The second time the different frames take
the path of still images, through a :class:`~gankit.pipeline.runner.Runner` of their own, and are written as they come.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

from gankit_export.files import atomic_path

from gankit.memory import available_memory, release, require
from gankit.pipeline.items import Progress, error_message, failure, size
from gankit.pipeline.report import ImageReport
from gankit.pipeline.shared_calls import IMAGE_ERRORS
from gankit.pipeline.targets import Job

if TYPE_CHECKING:
    from gankit.images import DecodedImage
    from gankit.images.formats import Format
    from gankit.images.frames import FrameFacts, FrameWriter
    from gankit.pipeline.image_files import ImageFiles
    from gankit.pipeline.runner import Runner


class _FrameError(Exception):
    """A frame failed, and with it its file. The text is that of the frame's report."""


class _FrameMemoryError(_FrameError):
    """There was no memory for a frame beside the frames in flight."""


def run_jobs(runner: Runner, jobs: Sequence[Job], files: ImageFiles, notify: Callable[[str], None] | None) -> None:
    """Run still images with a runner, and then the files of several frames whose targets can hold them.

    Args:
        runner: the runner. It reports the progress and records each file.
        jobs: all jobs of the run.
        files: the files of the run.
        notify: called with one line that says what becomes of the files of several frames.
    """
    from gankit.images.frames import format_for

    kinds = {job: files.frames_of(job) for job in jobs}
    several = [job for job in jobs if kinds[job] is not None]
    if not several:
        runner.run(jobs)
        return
    if notify is not None:
        names = Counter(format.name for job in several if (format := format_for(kinds[job] or "", job.target)))
        notify(_what_becomes(several, names))
    state, progress = Progress(len(jobs)), runner.progress

    def report(changed: Progress) -> None:
        nonlocal state
        state = replace(changed, total=len(jobs))
        if progress is not None:
            progress(state)

    stills = [job for job in jobs if kinds[job] is None]
    if stills:
        replace(runner, progress=report).run(stills)
    began = perf_counter() - state.seconds
    for job in several:
        if runner.claim is not None and not runner.claim(job):
            continue
        run = _FrameRun(runner, job, files, replace(state, seconds=perf_counter() - began), progress)
        state = run.run()


def _what_becomes(jobs: Sequence[Job], formats: Counter[str]) -> str:
    from gankit.images.frames import TITLES

    if len(jobs) == 1:
        return f"{jobs[0].source} has several frames and becomes {TITLES[next(iter(formats))]}"
    counts = [f"{count} {TITLES[name]}" for name, count in formats.items()]
    return f"{len(jobs)} files have several frames and become {', '.join(counts)}"


@dataclass
class _FrameRun:
    """Makes one result of several frames.

    Attributes:
        runner: the runner of the run, whose parts the frames use.
        job: the source and its target.
        files: the files of the run.
        state: progress of the run before this file.
        progress: called with the progress of the run.
    """

    runner: Runner
    job: Job
    files: ImageFiles
    state: Progress
    progress: Callable[[Progress], None] | None
    _began: float = field(default_factory=perf_counter, init=False)
    _alone: bool = field(default=False, init=False)
    _input_size: tuple[int, int] | None = field(default=None, init=False)
    _seconds: dict[str, float] = field(default_factory=dict, init=False)
    _sizes: list[tuple[int, int]] = field(default_factory=list, init=False)
    _notes: list[str] = field(default_factory=list, init=False)
    _first: DecodedImage | None = field(default=None, init=False)
    _made_by: Mapping[str, Any] = field(default_factory=dict, init=False)
    _inner: Progress = field(default=Progress(0), init=False)
    _framed: float | None = field(default=None, init=False)

    def run(self) -> Progress:
        """Make the result and record it, also if it fails. Return the progress of the run after it."""
        try:
            try:
                report = self._made()
            except _FrameMemoryError:  # once more, with one frame in memory at a time
                self._alone, self._first = True, None
                self._seconds, self._sizes, self._notes = {}, [], []
                release()
                report = self._made()
        except _FrameError as error:
            report = failure(self.job, str(error), None, **self._seconds)
        except (*IMAGE_ERRORS, OSError) as error:
            report = failure(self.job, error_message(self.job, error), None, **self._seconds)
        pixels = sum(width * height for width, height in self._sizes)
        self.files.forget(report.source)
        ended = perf_counter()
        framed = ended if self._framed is None else self._framed  # when the frames began, after the first reading
        reading = framed - self._began + self._inner.waited_to_decode
        writing = max(0.0, ended - framed - self._inner.seconds) + self._inner.waited_to_encode
        done = report.status == "done"
        state = replace(
            self.state,
            done=self.state.done + done,
            failed=self.state.failed + (not done),
            output_mp=self.state.output_mp + done * pixels / 1e6,
            seconds=self.state.seconds + perf_counter() - self._began,
            fraction=0.0,
            waited_to_decode=self.state.waited_to_decode + reading,
            waited_to_encode=self.state.waited_to_encode + writing,
        )
        if self.runner.record is not None:
            self.runner.record(report)
        if self.progress is not None:
            self.progress(state)
        return state

    def _made(self) -> ImageReport:
        from gankit.images.encode import write_errors
        from gankit.images.frames import NOTE_STARTS, TITLES, format_for, frame_writer, frames_held, probe

        kind = self.files.frames_of(self.job)
        assert kind is not None
        format = format_for(kind, self.job.target)
        assert format is not None
        target = self.job.target
        facts = probe(self.job.source, kind, **self._limits())  # first, because it says which frame is damaged
        base = self.files.decode(self.job.source)
        self.files.check(base, target)
        self._input_size = size(base)
        wide, tall = self.files.size_of(base)
        needed = frames_held(format) * wide * tall * (3 + facts.alpha) * base.pixels.itemsize
        what = f"{self.job.target}: {TITLES[format.name]} of {wide}×{tall} pixels"
        require(
            needed, what, "use --format png" if format.name == "avif" else "free some memory", self.files.max_memory
        )
        self._notes += [*facts.notes, *(note for note in base.notes if not note.startswith(NOTE_STARTS))]
        base = _without_pixels(base)  # the frames come from the second reading
        self._seconds["decode_seconds"] = perf_counter() - self._began
        with write_errors(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            with atomic_path(target, sync=True) as temporary, temporary.open("x+b") as file:
                writer = frame_writer(format, file, facts, self.files.options.quality)
                self._run_frames(base, facts, format, writer)
                self._notes += writer.finish()
                self.files.begin(self.job, self._made_by)
        assert self._first is not None
        lost = self.files.written(self._first, self.job, self._made_by)
        return ImageReport(
            self.job.source,
            target,
            "done",
            input_size=self._input_size,
            output_size=self._sizes[0],
            notes=tuple(dict.fromkeys((*self._notes, *lost))),
            frames=facts.count,
            **self._seconds,  # type: ignore[arg-type]
        )

    def _limits(self) -> dict[str, int]:
        return {
            "max_pixels": self.files.options.max_pixels,
            "max_bytes": available_memory(self.files.max_memory),
        }

    def _run_frames(self, base: DecodedImage, facts: FrameFacts, format: Format, writer: FrameWriter) -> None:
        """Run the different frames, and write each as often as it is shown.

        Raises:
            _FrameError: A frame failed.
            OutputError: The file cannot be written.
        """
        from gankit.images.encode import fitting, write_errors
        from gankit.images.frames import distinct_frames

        frames = distinct_frames(facts, **self._limits())
        numbers = [sum(facts.runs[:index]) for index in range(len(facts.runs))]
        written = iter(zip(numbers, facts.runs, strict=True))

        def decode(source: Path) -> DecodedImage:
            frame = next(frames)
            if facts.kind == "tiff":
                return replace(self.files.annotated(frame), notes=())
            return replace(base, pixels=frame.pixels, alpha=frame.alpha, gray=frame.gray, notes=())

        def encode(image: DecodedImage, _: Path) -> tuple[str, ...]:
            self._made_by = self.files.made_by(image) or self._made_by
            if self._first is None:
                self._first = image if self.files.options.compare else _without_pixels(image)
            number, run = next(written)
            fitted, lost = fitting(image, format)
            with write_errors(self.job.target):
                for seconds in facts.seconds[number : number + run]:
                    writer.add(fitted, seconds)
            self._notes += [*image.notes, *lost]
            self._sizes += [size(image)] * run
            return ()

        def framed(job: Job, message: str) -> str:
            text = message.removeprefix(f"{self.job.source}: ")
            place = "" if text.startswith(facts.word) else f"{job.target.name} of {facts.count}: "
            return f"{self.job.source}: {place}{text}"

        def too_large(job: Job, message: str) -> str:
            if self._alone:
                return message
            raise _FrameMemoryError(framed(job, message))

        def record(report: ImageReport) -> None:
            if report.status == "failed":
                raise _FrameError(framed(Job(report.source, report.target), str(report.error)))
            for name in ("decode_seconds", "engine_seconds", "encode_seconds"):
                self._seconds[name] = self._seconds.get(name, 0.0) + getattr(report, name)

        def progress(inner: Progress) -> None:
            self._inner = inner
            if self.progress is not None:
                part = (inner.done + 0.99 * inner.fraction) / inner.total
                seconds = self.state.seconds + perf_counter() - self._began
                done = replace(self.state, current=self.job.source, fraction=min(part, 1.0), seconds=seconds)
                self.progress(replace(done, output_mp=self.state.output_mp + inner.output_mp))

        self._framed = perf_counter()
        replace(
            self.runner,
            decode=decode,
            encode=encode,
            check=lambda image, _: self.files.check(image, self.job.target),
            decoders=1,
            encoders=1,
            alone=self._alone,
            in_order=True,
            claim=None,
            too_large=too_large,
            progress=progress,
            record=record,
        ).run([Job(self.job.source, self.job.target.with_name(f"{facts.word} {number + 1}")) for number in numbers])


def _without_pixels(image: DecodedImage) -> DecodedImage:
    """Return an image with its metadata and one of its pixels."""
    alpha = None if image.alpha is None else image.alpha[:1, :1].copy()
    return replace(image, pixels=image.pixels[:1, :1].copy(), alpha=alpha)
