"""Write the reconstructions of an autoencoder to files. Imports no torch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from gankit.errors import ImageError
from gankit.memory import available_memory
from gankit.options import EngineOptions
from gankit.pipeline.generated_files import ImageFolder, new_grid
from gankit.pipeline.inputs import Inputs, collect
from gankit.pipeline.items import Progress
from gankit.pipeline.journal import plain_json
from gankit.pipeline.notices import notices
from gankit.pipeline.output import no_empty_folders, prepare, remove_stale
from gankit.pipeline.ready import made_by
from gankit.pipeline.records import Records
from gankit.pipeline.report import EngineReport, ImageReport, ModelReport, Report, Waits, versions
from gankit.pipeline.resume import Decision, Resume
from gankit.pipeline.run_options import RunOptions
from gankit.pipeline.sampler import Sampler
from gankit.pipeline.sharing import Sharing
from gankit.pipeline.targets import Job

if TYPE_CHECKING:
    from gankit.backends.base import Engine

_PAIRS = 8  # originals with their reconstructions in a row of the sample grid
_WRITERS = 4  # threads; they mostly wait for the disk


class ReconstructingEngine:
    """The autoencoder of a :class:`Reconstructor`, and its engine. Arguments and attributes are those of the latter."""

    def __init__(self, sampler: Sampler) -> None:
        self._sampler = sampler
        self._seconds = 0.0

    def start(self) -> Engine:
        """Return the engine, which the first call loads."""
        began, first = perf_counter(), self._sampler.parity is None
        engine = self._sampler.start()
        self._seconds = perf_counter() - began if first else self._seconds
        return engine

    def options_of_results(self) -> Mapping[str, Any]:
        """Return the options that determine the pixels of a result, as in JSON."""
        return {**self._sampler.engine.of_results(), "model": plain_json(self._sampler.facts.options)}

    def weights_sha256(self) -> str:
        """Return the sha256 of the weights, hexadecimal."""
        return self._sampler.loaded.sha256

    def report(self) -> EngineReport | None:
        """Describe the engine that ran; ``None`` if none did."""
        if (parity := self._sampler.parity) is None:
            return None
        engine, batch = self._sampler.start(), self._sampler.batch
        on = engine.backend, str(engine.precision), str(engine.device)
        return EngineReport(*on, "auto", batch, parity.psnr, parity.max_abs, self._seconds)

    def exact_report(self) -> None:
        """Return ``None``: images of all depths run in 8 bits."""

    def model_report(self) -> ModelReport:
        """Describe the weights."""
        loaded = self._sampler.loaded
        return ModelReport(loaded.facts.name, loaded.facts.scale, str(loaded.path), loaded.sha256, {})


class Reconstructor:
    """Makes an autoencoder's reconstruction of each image, under the name of the image.

    Args:
        sampler: a model with an encoder, and its engine.

    Attributes:
        report: the report of the last run.
    """

    takes_clips: ClassVar[bool] = False

    def __init__(self, sampler: Sampler) -> None:
        self.sampler, self.engines = sampler, ReconstructingEngine(sampler)
        self.engine: EngineOptions = sampler.engine
        self.notify = sampler.notify
        self.report: Report | None = None

    def run(
        self,
        inputs: Sequence[str | Path],
        output: str | Path,
        *,
        progress: Callable[[Progress], None] | None = None,
        each: Callable[[ImageReport], None] | None = None,
        **options: Any,
    ) -> Report:
        """Write a reconstruction of each image in some folders.

        As with :meth:`gankit.Upscaler.run`, a journal tells which results are up to date, and which are made again
        because the image, the model or an option changed, and two runs on one folder share the work.

        Args:
            inputs: folders of images of the model's size; they are not resized. A gray model gets the luma of colour
                images.
            output: where to write them.
            progress: called with the state of the run after each image.
            each: called with the report of each image.
            options: ``format`` and ``overwrite`` of :class:`~gankit.pipeline.run_options.RunOptions`.

        Returns:
            The report of the run.

        Raises:
            UsageError: If the model has no encoder, or the inputs or the options are wrong.
            OutputError, BackendError, CheckpointError, ParityError: See :meth:`gankit.Upscaler.run`.
        """
        chosen = RunOptions(**options)
        found, decisions, resume = self._decided(inputs, Path(output), chosen)
        resume.confirm(decisions)
        for line in notices(found, decisions) if self.notify else ():
            self.notify(line)  # type: ignore[misc]
        again = {one.job.source: one.change for one in decisions if one.change is not None}
        records = Records(found, Path(output), None, self.notify, again, each)
        for one in decisions:
            if not one.run:
                records.add(ImageReport(one.job.source, one.job.target, "skipped" if one.up_to_date else "kept"))
        todo, seconds = [one.job for one in decisions if one.run], 0.0
        if todo:
            folders = {Path(output), *(job.target.parent for job in todo)}
            with no_empty_folders([Path(output)]):
                for folder in sorted(folders):
                    prepare(folder)
                    remove_stale(folder)
                self.engines.start()
                began = perf_counter()
                self.process(todo, chosen, resume, record=records.add, progress=progress, notify=self.notify)
                seconds = perf_counter() - began
        self.report = self.report_of(records, found, seconds)
        return self.report

    def plan(self, inputs: Sequence[str | Path], output: str | Path, **options: Any) -> list[Decision]:
        """Return what :meth:`run` would do, without decoding or writing anything. Arguments are those of it."""
        return self._decided(inputs, Path(output), RunOptions(**options))[1]

    def _decided(
        self, inputs: Sequence[str | Path], output: Path, chosen: RunOptions
    ) -> tuple[Inputs, list[Decision], Resume]:
        self.sampler.encoding()
        found, own = collect(inputs, output, format=chosen.format), self.engines.options_of_results()
        resume = Resume(self.engines.weights_sha256, lambda target: {**own, **chosen.of_result(target)}, [output])
        return found, resume.decide(found.jobs, overwrite=chosen.overwrite), resume

    def mark(self, chosen: RunOptions) -> str:
        """Return the text that is added to the name of a source if there is no output folder."""
        return "_reconstructed"

    def report_of(self, records: Records, found: Inputs, seconds: float) -> Report:
        """Return the report of a run; see :meth:`gankit.pipeline.images.ImagePipeline.report_of`."""
        return Report(
            images=records.images(),
            ignored=found.ignored,
            ignored_files=found.ignored_files,
            unread=tuple(path for paths in found.unread.values() for path in paths),
            seconds=seconds,
            engine=self.engines.report(),
            model=self.engines.model_report(),
            versions=versions(()),
        )

    def process(
        self,
        jobs: Sequence[Job],
        options: RunOptions,
        resume: Resume,
        *,
        record: Callable[[ImageReport], None],
        progress: Callable[[Progress], None] | None = None,
        notify: Callable[[str], None] | None = None,
    ) -> Waits:
        """Run jobs whose targets are decided; see :func:`gankit.pipeline.job_run.process`."""
        made = made_by(self.engines.start(), self.engine)
        state, began, waits = Progress(len(jobs)), perf_counter(), Waits(0.0, 0.0)

        def known(report: ImageReport) -> None:
            nonlocal state, waits
            sharing.release(report.target)
            record(report)
            done, failed = report.status == "done", report.status == "failed"
            total = state.total - (not done and not failed)
            pixels = report.output_size or (0, 0)
            state = replace(
                state,
                total=total,
                done=state.done + done,
                failed=state.failed + failed,
                output_mp=state.output_mp + pixels[0] * pixels[1] / 1e6,
                seconds=perf_counter() - began,
                current=report.source,
            )
            if progress is not None:
                progress(state)

        with resume.claims() or nullcontext() as claims, ThreadPoolExecutor(_WRITERS) as pool:
            sharing, todo = Sharing(resume, claims, known), list(jobs)
            while todo:
                for start in range(0, len(todo), self.sampler.batch):
                    before = perf_counter()
                    taken = [job for job in todo[start : start + self.sampler.batch] if sharing.claim(job)]
                    read = list(self._read(taken, resume, known))
                    waits += Waits(perf_counter() - before, 0.0)
                    if not read:
                        continue
                    before = perf_counter()
                    results = self.sampler.reconstruct(np.stack([image for _, image in read]))
                    seconds = (perf_counter() - before) / len(read)
                    before = perf_counter()
                    write = partial(_written, resume=resume, made=made)
                    for report in pool.map(write, [report for report, _ in read], results):
                        known(replace(report, engine_seconds=seconds))
                    waits += Waits(0.0, perf_counter() - before)
                todo = sharing.after_others(notify)
        return waits

    def _read(
        self, jobs: Sequence[Job], resume: Resume, failed: Callable[[ImageReport], None]
    ) -> Iterator[tuple[ImageReport, np.ndarray]]:
        """Read the images of the model's size as (H, W, C) uint8, and report the others as failed."""
        for job in jobs:
            began = perf_counter()
            resume.before_reading(job.source)
            try:
                image, notes = self._pixels(job.source)
                resume.after_reading(job.source)
            except ImageError as error:
                failed(ImageReport(job.source, job.target, "failed", error=str(error)))
                continue
            size = image.shape[1], image.shape[0]
            yield ImageReport(
                job.source, job.target, "done", input_size=size, output_size=size, notes=notes,
                decode_seconds=perf_counter() - began,
            ), image  # fmt: skip

    def _pixels(self, source: Path) -> tuple[np.ndarray, tuple[str, ...]]:
        """Read an image as (H, W, C) uint8. Raises ImageError if it has another size than the model's."""
        from gankit.images import decode

        facts = self.sampler.facts
        height, width = facts.output_size or (0, 0)
        image = decode(source, max_bytes=available_memory(self.engine.max_memory)).to_8bit()
        have = image.pixels.shape[:2]
        if have != (height, width):
            reason = f"is {have[1]}×{have[0]}, but '{facts.name}' takes {width}×{height}; resize it first"
            raise ImageError(source, reason)
        return _gray(image.pixels, image.gray) if facts.channels == 1 else image.pixels, image.notes

    def write_grid(
        self,
        sources: Sequence[Path],
        grid: tuple[ImageFolder, str],
        opened: Callable[[Path], AbstractContextManager[Path]] = nullcontext,
    ) -> None:
        """Write a sample grid in which each image is followed by its reconstruction. Images that fail are left out.

        Args:
            sources: the images.
            grid: folder and name of the grid. An existing file is replaced.
            opened: returns the context in which a source is a local file.

        Raises:
            UsageError: If the grid would be too large.
            OutputError: If it cannot be written.
        """
        made, placed = new_grid(self.sampler, 2 * len(sources), 2 * _PAIRS), 0
        for start in range(0, len(sources), self.sampler.batch):
            images = []
            for source in sources[start : start + self.sampler.batch]:
                try:
                    with opened(source) as path:
                        images.append(self._pixels(path)[0])
                except (ImageError, OSError):  # the run has reported it
                    continue
            for pair in zip(images, self.sampler.reconstruct(np.stack(images)), strict=True) if images else ():
                for image in pair:
                    made.place(placed, image)
                    placed += 1
        folder, name = grid
        folder.write_image(name, made.pixels)


def reconstructor(model: Any, *, options: Any = None, **keywords: Any) -> Reconstructor:
    """Make the reconstructor of a worker. Arguments are those of :class:`~gankit.Sampler`."""
    return Reconstructor(Sampler(model, options=options, **keywords))


def _written(report: ImageReport, image: np.ndarray, resume: Resume, made: Mapping[str, Any]) -> ImageReport:
    """Write a result, and return its report."""
    from gankit.images import encode, from_array

    job, began = Job(report.source, report.target), perf_counter()
    try:
        resume.begin(job, made)
        encode(from_array(image), job.target)
    except ImageError as error:
        return replace(report, status="failed", error=str(error), output_size=None)
    resume.finish(job, made)
    return replace(report, encode_seconds=perf_counter() - began)


def _gray(pixels: np.ndarray, gray: bool) -> np.ndarray:
    """Convert (H, W, 3) to (H, W, 1): the luma of a colour image, or the first channel of a gray one."""
    from gankit.images import luma

    return pixels[..., :1] if gray else luma(pixels)[..., None]
