"""Run the images of a run that do not fit into memory, strip by strip, after all others. Imports no torch."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field, replace
from time import perf_counter
from typing import TYPE_CHECKING, Any, Literal

from gankit.errors import ImageError, NotFiniteError, OutputError
from gankit.images.encode import check_target
from gankit.images.row_image import Opened, RowImage
from gankit.images.row_writers import check_rows_target, encode_rows
from gankit.images.rows import check_rows, header_of, open_rows
from gankit.memory import available_memory, release, size
from gankit.pipeline.engines import Engines
from gankit.pipeline.image_files import ImageFiles
from gankit.pipeline.items import Progress, error_message
from gankit.pipeline.paths import is_file
from gankit.pipeline.ready import made_by
from gankit.pipeline.report import ImageReport, Waits
from gankit.pipeline.run_options import RunOptions
from gankit.pipeline.shared_calls import IMAGE_ERRORS
from gankit.pipeline.targets import Job

if TYPE_CHECKING:
    from gankit.images import DecodedImage
    from gankit.pipeline.processor import Processor
    from gankit.pipeline.strips import Looked


@dataclass
class LargeImages:
    """The images of a run that do not fit into memory in one piece.

    Whether an image fits is decided before the run, from the size that the file declares. One that turns out not to fit
    is taken over then.

    Attributes:
        jobs: all jobs of the run.
        files: the files of the run.
        engines: the engines of the pipeline.
        options: the options of the run.
        listener: called with the state of the run; ``None`` if nobody listens.
        record: called with the report of each image.
    """

    jobs: Sequence[Job]
    files: ImageFiles
    engines: Engines
    options: RunOptions
    listener: Callable[[Progress], None] | None
    record: Callable[[ImageReport], None]
    _possible: bool = field(default=False, init=False)
    _large: list[tuple[Job, Opened]] = field(default_factory=list, init=False)
    _state: Progress = field(default=Progress(0), init=False)

    def __post_init__(self) -> None:
        self._began = perf_counter()

    def others(self) -> list[Job]:
        """Return the jobs whose images fit into memory, or fail with an error that says why they do not.

        Strips need a generator that can be tiled and sources of colours.
        """
        facts = self.engines.fast().facts
        self._state = Progress(len(self.jobs))
        if not facts.tileable or facts.input_kind != "image":
            return list(self.jobs)
        self._possible = True
        room = available_memory(self.engines.options.max_memory)
        # Opening a pipe would wait for its writer.
        found = [(job, header_of(job.source)) for job in self.jobs if is_file(job.source)]
        self._large = [(job, opened) for job, opened in found if opened is not None and self._needed(opened) > room]
        large = {job.target for job, _ in self._large}
        return [job for job in self.jobs if job.target not in large]

    def too_large(self, job: Job, message: str) -> str | None:
        """Take a job over whose image did not fit into memory, although it seemed to; may be called from any thread.

        Args:
            job: one of the others.
            message: the line that says so.

        Returns:
            ``None``, or the line to record if the image cannot run by strips.
        """
        if not self._possible:
            return message
        opened = header_of(job.source)
        if opened is None:
            return f"{message}; saved as TIFF, PNG or JPEG it could run by strips"
        self._large.append((job, opened))
        return None

    def _needed(self, opened: Opened) -> int:
        """Estimate the memory that an image takes in one piece: to be read, or to be upscaled and encoded."""
        header, processor = opened.header, self.engines.fast()
        pixels = header.width * header.height
        own = pixels * opened.pixel_bytes
        scale = processor.facts.scale
        result = (3 if opened.alpha else 2) * own * scale**2
        if self.options.size.given:
            out = self.options.size.of((header.width, header.height), scale)
            result = max(result, own * scale**2 + (4 if opened.alpha else 3) * out[0] * out[1] * opened.pixel_bytes)
        batch = 1 if processor.batch == "auto" else processor.batch
        engine = processor.workspace.least_bytes(header.height, header.width, processor.tile, batch)
        return max(opened.file_bytes + pixels * header.bytes_per_pixel, own + result + engine)

    def progress(self, state: Progress) -> None:
        """Report the state of the other images, as the state of all."""
        self._state = replace(state, total=len(self.jobs))
        if self.listener is not None:
            self.listener(self._state)

    @property
    def state(self) -> Progress:
        """The state of the run as it was last reported."""
        return self._state

    @property
    def waits(self) -> Waits:
        """How long the engine waited, in all that was reported so far."""
        return Waits(self._state.waited_to_decode, self._state.waited_to_encode)

    def run(self, claim: Callable[[Job], bool]) -> None:
        """Run the images.

        Args:
            claim: called with each job before it is read; returns whether to run it.

        Raises:
            OutputError: If the output cannot be written.
            GankitError: If the engine cannot continue.
        """
        if self._large:
            release()
        for job, opened in self._large:
            if not claim(job):
                continue
            began = perf_counter()
            try:
                report = self._one(job, opened)
            except OutputError:
                raise
            except (*IMAGE_ERRORS, OSError) as error:
                report = ImageReport(
                    job.source,
                    job.target,
                    "failed",
                    error=error_message(job, error),
                    input_size=(opened.header.width, opened.header.height),
                    engine_seconds=perf_counter() - began,
                )
            self.record(report)
            failed, pixels = report.status == "failed", report.output_size or (0, 0)
            self._report_state(
                done=self._state.done + (not failed),
                failed=self._state.failed + failed,
                output_mp=self._state.output_mp + pixels[0] * pixels[1] / 1e6,
            )

    def _one(self, job: Job, opened: Opened) -> ImageReport:
        from gankit.pipeline.strips import look

        header = opened.header
        out = self.options.size.of((header.width, header.height), self.engines.fast().facts.scale)
        job.target.parent.mkdir(parents=True, exist_ok=True)
        began = perf_counter()
        self._report_state(current=job.source, fraction=0.0)
        try:
            check_rows(job.source, opened, self.options.max_pixels)
            check_target(out, job.target)
            try:
                check_rows_target(out, job.target)
                image = open_rows(job.source, opened)
            except ImageError as error:
                needed, room = size(self._needed(opened)), size(available_memory(self.engines.options.max_memory))
                reason = f"{error.reason} (in one piece, it takes about {needed} of memory, and {room} are available)"
                raise ImageError(error.path, reason) from error
            with self.files.reading(job.source):
                looked = look(image)
        finally:
            read = perf_counter() - began
            self._waited("decode", read)
        image = replace(image, head=self.files.annotated(image.head))
        processor = self.engines.of_levels(image.head.pixels.dtype == "uint8", lambda least: looked.deviation >= least)
        try:
            result = self._write(job, image, processor, looked, began)
        except NotFiniteError:
            if self.engines.options.precision != "auto":
                raise
            result = self._write(job, image, self.engines.exact(), looked, began)
        return replace(result, decode_seconds=read + result.decode_seconds)

    def _write(self, job: Job, image: RowImage, processor: Processor, looked: Looked, began: float) -> ImageReport:
        """Run an image that was read once since ``began``, and write its result."""
        from gankit.pipeline.strip_comparison import StripComparison
        from gankit.pipeline.strip_run import StripRun
        from gankit.pipeline.strips import count_strips, plan_in_flight

        facts, limit = processor.facts, self.engines.options.max_memory
        source, size_of, scale = (image.width, image.height), self.options.size, facts.scale
        pixel_bytes = image.head.channels().nbytes
        resizing = size_of.window_bytes(source, scale, pixel_bytes)
        out = size_of.of(source, scale)
        watched = StripComparison(size_of, out) if self.files.compares(job) else None
        resizing += 0 if watched is None else watched.bytes
        cut, in_flight = plan_in_flight(image, facts, processor.halo, available_memory(limit), resizing)
        strips = count_strips(cut)
        if self.engines.notify is not None:
            within = "" if limit is None else f" within {size(limit)}"
            pixels = image.width * image.height / 1e6
            self.engines.notify(f"{job.source}: {pixels:.3g} MP, by {strips} strips of {cut.tile[0]} rows{within}")
        made = made_by(processor.engine, self.engines.options)

        def progress(part: float) -> None:
            self._report_state(current=job.source, fraction=part)

        def write(results: Generator[DecodedImage, None, None]) -> tuple[str, ...]:
            resized = size_of.resized_strips(results, source, scale)
            if watched is not None:
                resized = watched.watch(resized)
            return encode_rows(image.head, out, resized, job.target, quality=self.options.quality)

        run = StripRun(processor, image, looked, cut, in_flight, write, progress, began)
        self.files.begin(job, made)
        try:
            lost = run.run()
        finally:
            self._waited("decode", run.engine.waited["read"])
            self._waited("encode", run.engine.waited["write"])
        self.files.complete(job, made)
        compared = perf_counter()
        if self.options.compare:
            lost += self.files.compare(job, lambda: watched.made(processor, image, looked, cut))  # type: ignore[union-attr]
        compared = perf_counter() - compared
        self._waited("encode", compared)
        return ImageReport(
            job.source,
            job.target,
            "done",
            input_size=source,
            output_size=out,
            decode_seconds=run.reader.seconds,
            engine_seconds=run.engine.seconds,
            encode_seconds=run.writer.seconds + compared,
            notes=(*image.head.notes, *size_of.notes(source, scale), *lost),
            strips=strips,
        )

    def _waited(self, what: Literal["decode", "encode"], seconds: float) -> None:
        """Count seconds for which the engine waited."""
        name = f"waited_to_{what}"
        self._state = replace(self._state, **{name: getattr(self._state, name) + seconds})

    def _report_state(self, **changes: Any) -> None:
        self.progress(replace(self._state, seconds=perf_counter() - self._began, **changes))
