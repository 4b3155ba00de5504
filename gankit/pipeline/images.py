"""The pipeline behind :class:`~gankit.Upscaler` and :class:`~gankit.Translator`. Importing it imports no torch."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any, ClassVar, Self, Unpack, overload

from gankit import backends
from gankit.errors import UsageError
from gankit.models.facts import AtTest, Direction, Facts, Task
from gankit.options import EngineOptions
from gankit.paths import cache_notice
from gankit.pipeline.engines import Engines
from gankit.pipeline.forks import check_process, is_forked
from gankit.pipeline.inputs import Inputs, collect
from gankit.pipeline.items import Progress
from gankit.pipeline.job_run import process
from gankit.pipeline.notices import notices
from gankit.pipeline.output import no_empty_folders, prepare, remove_stale, roots_of
from gankit.pipeline.records import Records
from gankit.pipeline.report import ImageReport, Report, Waits, versions
from gankit.pipeline.resume import Decision, Resume, with_comparison
from gankit.pipeline.run_options import RunKeywords, RunOptions
from gankit.pipeline.source import ModelSource, PipelineKeywords, split_keywords
from gankit.pipeline.targets import Job
from gankit.pipeline.workload import job_pixels

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image
    from torch import Tensor

    from gankit.pipeline.source import Model


class ImagePipelineKeywords(PipelineKeywords, total=False):
    """The keyword arguments of :class:`ImagePipeline`."""

    engine: EngineOptions | None
    notify: Callable[[str], None] | None
    direction: Direction | None
    norm: AtTest | None
    options: Mapping[str, Any] | None
    facts: Facts | None


class ImagePipeline:
    """Runs images through one generator. The engine is chosen and loaded at the first image.

    With ``precision="auto"``, the first image of more than 8 bits loads a second engine in fp32.

    An instance may be called from several threads; the engine runs one image at a time. Subclasses set the task.

    Args:
        model: a registry name, a weights file, a :class:`~gankit.checkpoints.Loaded` model, or an ``nn.Module`` of your
            own that takes and returns (N, C, H, W) floating point.
        engine: the engine options. You can also pass its fields as keywords, which take precedence.
        notify: called with each line to report to the user, such as the choice of the engine.
        direction: which generator of a pair to run; see :func:`gankit.checkpoints.open_model`.
        norm: which statistics BatchNorm uses; see :func:`gankit.checkpoints.open_model`.
        options: model options that replace those of the weights file; see :func:`gankit.checkpoints.open_model`.
        facts: facts of your own module, as :class:`gankit.Facts`. You can also state them as keywords:
            ``value_range``, ``scale``, ``channels``, ``multiple``, ``minimum``, ``tileable``, ``halo``, ``input_kind``
            and ``labels``. Facts that you do not state are derived by running and tracing the module. It is an error if
            that fails. Of any other model you can state ``input_kind`` and ``labels``, if its weights do not say them.
        keywords: engine options and facts, as above.

    Attributes:
        task: the task that the model must be for.
        report: the report of the last :meth:`run`, even if an error ended it; ``None`` if it processed no images.

    Raises:
        UsageError: If the model, the backend or the precision is unknown, or a tile, batch or thread count is less
            than 1.
    """

    task: ClassVar[Task]
    takes_clips: ClassVar[bool] = True

    def __init__(
        self,
        model: Model,
        *,
        engine: EngineOptions | None = None,
        notify: Callable[[str], None] | None = None,
        direction: Direction | None = None,
        norm: AtTest | None = None,
        options: Mapping[str, Any] | None = None,
        facts: Facts | None = None,
        **keywords: Unpack[PipelineKeywords],
    ) -> None:
        self.engine, stated = split_keywords(engine, keywords)
        source = ModelSource(model, self.task, direction, norm, options, facts, stated)
        if self.engine.backend != "auto" and self.engine.backend not in backends.BACKENDS:
            backends.get(self.engine.backend)  # raises, naming the nearest
        self.model, self.notify = model, notify
        self.report: Report | None = None
        self._lock = threading.RLock()
        self._engines = Engines(source, self.engine, notify)

    @overload
    def __call__(self, image: Image.Image) -> Image.Image: ...
    @overload
    def __call__(self, image: np.ndarray) -> np.ndarray: ...
    @overload
    def __call__(self, image: Tensor) -> Tensor: ...
    @overload
    def __call__(self, image: str | Path) -> Image.Image: ...
    @overload
    def __call__(self, image: list[Any] | tuple[Any, ...]) -> list[Any]: ...
    def __call__(self, image: Any) -> Any:
        """Run an image, a batch of images, or a list of them.

        Args:
            image: one of these:

                * a NumPy array of shape (H, W), (H, W, 1 to 4) or (N, H, W, 1 to 4) with channels in RGBA order, in
                  uint8, uint16, or floating point from 0 to 1;
                * a torch tensor of shape (C, H, W) or (N, C, H, W), in uint8, or in floating point from 0 to 1 with
                  as many channels as the model takes;
                * a Pillow image;
                * the path of an image file, as ``str`` or ``Path``, of which the first frame is used;
                * a list or tuple of any of these, which may differ in kind and size.

                If the input of the model is a mask or a label map (``facts.input_kind``), values are read as indices.
                Arrays and tensors may then be boolean or of any integer type. A tensor of floating point is still
                given to the model as it is.

        Returns:
            The result in the kind of the image. An array or a tensor has the dtype and as many axes as the image (uint8
            if it held indices of another type), and a tensor is on the same device. Floating-point results range from
            0 to 1. A Pillow image has the same mode, but a palette becomes RGB or RGBA. A path gives a Pillow image,
            which holds 8 bits, or 16 bits if it is gray; :meth:`run` writes files of 16 bits. A list or tuple gives a
            list.

        Raises:
            UsageError: If an image has another type, dtype, shape or range.
            ImageError: If a file cannot be read.
            NotFiniteError, EngineMemoryError: If an image exceeds the range of its precision, or the memory.
            ForkedError: If gankit was used before this process was forked.
            BackendError, CheckpointError, ParityError: If no engine can run the model.
        """
        check_process()
        from gankit.pipeline.run_given import run_given

        with self._lock:
            self._engines.outgrow()  # more images may follow
            if isinstance(image, list | tuple):
                return run_given(self._engines, image, listed=True)
            return run_given(self._engines, [image], listed=False)[0]

    def run(
        self,
        inputs: Sequence[str | Path] | str | Path,
        output: str | Path | None = None,
        *,
        progress: Callable[[Progress], None] | None = None,
        failed: Callable[[ImageReport], None] | None = None,
        each: Callable[[ImageReport], None] | None = None,
        **options: Unpack[RunKeywords],
    ) -> Report:
        """Run files and folders, and write the results to a folder.

        A journal beside the results (``.gankit.jsonl``) holds how each was made. A result is skipped before decoding if
        its source, the model and the options that decide its pixels are still the same, and made again if one changed.
        A file that gankit did not make is kept. ``overwrite=True`` replaces all. Images too large for the memory run by
        strips (:mod:`gankit.pipeline.large`).

        Args:
            inputs: files, folders (with their subfolders) and patterns; ``gankit.pipeline.targets`` describes how the
                results are named.
            output: folder for the results, which is created if it is missing. ``None`` writes the results beside
                their sources: ``photos/`` becomes ``photos_x4/`` and ``a.png`` becomes ``a_x4.png`` (``_translated``
                for a translator).
            progress: called with the state of the run, from any thread, one call at a time.
            failed: called with the report of each image as soon as it fails, from any thread, one call at a time.
            each: called likewise with the report of every image that is done, failed, skipped or kept.
            options: the fields of :class:`gankit.pipeline.run_options.RunOptions`.

        Returns:
            The report of the run. An image that cannot be processed is recorded there and raises nothing. If an error
            or Ctrl-C ends the run, :attr:`report` holds what was done.

        Raises:
            UsageError: If the inputs or the options are wrong.
            OutputError: If the output cannot be written. Files written before are complete.
            BackendError, CheckpointError, ParityError: If no engine can run the model.
        """
        chosen = RunOptions(**options)
        self.report = None
        found, decisions, resume = self._collect(inputs, output, chosen)
        resume.confirm(decisions)
        again = {one.job.source: one.change for one in decisions if one.change is not None}
        records = Records(found, Path(output or "."), failed, self.notify, again, each)
        for one in decisions:
            if not one.run:
                records.add(ImageReport(one.job.source, one.job.target, "skipped" if one.up_to_date else "kept"))
        todo = [one.job for one in decisions if one.run]
        if not todo:
            self.report = self.report_of(records, found, 0.0)
            return self.report
        check_process()
        if self.notify and (notice := cache_notice()):
            self.notify(notice)
        with self._lock:
            self._engines.check()
            if chosen.mask_from is not None and self.facts.input_kind != "mask":
                raise UsageError(f"mask_from: '{self.facts.name}' takes no masks of two values; omit it")
        folders = {job.target.parent for job in todo}
        made = [Path(output)] if output is not None else sorted(folders)
        with no_empty_folders(made), self._lock:
            for folder in made:
                prepare(folder)
            for folder in {*made, *folders}:
                remove_stale(folder)
            self._engines.fast(job_pixels(todo), whole_job=True)  # the time of the run does not count its start
            began, waits = perf_counter(), None
            try:
                waits = process(
                    self._engines, todo, chosen, resume, record=records.add, progress=progress, notify=self.notify
                )
            finally:
                self.report = replace(self.report_of(records, found, perf_counter() - began), waits=waits)
        return self.report

    def plan(
        self,
        inputs: Sequence[str | Path] | str | Path,
        output: str | Path | None = None,
        **options: Unpack[RunKeywords],
    ) -> list[Decision]:
        """Return what :meth:`run` would do, without decoding or writing anything.

        Args are those of :meth:`run`.

        Returns:
            A decision for each image: its source, its target and what would be done.

        Raises:
            UsageError: If they are wrong.
        """
        return self._collect(inputs, output, RunOptions(**options))[1]

    def _collect(
        self, inputs: Sequence[str | Path] | str | Path, output: str | Path | None, chosen: RunOptions
    ) -> tuple[Inputs, list[Decision], Resume]:
        """Find the images and decide what to do with each, and report what the user should know about them."""
        inputs = [inputs] if isinstance(inputs, str | Path) else inputs
        if not isinstance(inputs, Sequence) or not all(isinstance(path, str | Path) for path in inputs):
            raise UsageError(f"inputs must be a path or a list of paths, not {inputs!r}")
        if output is not None and not isinstance(output, str | Path):
            raise UsageError(f"output must be the path of a folder, not {output!r}")
        mark = "" if output is not None else self.mark(chosen)
        found = collect(
            inputs, output, suffix=chosen.suffix, format=chosen.format, overwrite=chosen.overwrite, mark=mark
        )
        own, roots = self._engines.options_of_results(), roots_of(output, found.places)
        resume = Resume(self._engines.weights_sha256, lambda target: {**own, **chosen.of_result(target)}, roots)
        decisions = resume.decide(found.jobs, overwrite=chosen.overwrite)
        if chosen.compare:
            decisions = [with_comparison(each) for each in decisions]
        if self.notify:
            for line in notices(found, decisions):
                self.notify(line)
        return found, decisions, resume

    def mark(self, chosen: RunOptions) -> str:
        """Return the text that is added to the name of a source if there is no output folder."""
        return chosen.size.mark(self.facts.scale) if self.task == "upscale" else "_translated"

    def report_of(self, records: Records, found: Inputs, seconds: float) -> Report:
        """Return the report of a run.

        Args:
            records: the reports of its images.
            found: what its inputs held.
            seconds: time from the first decode to the last write.
        """
        return Report(
            images=records.images(),
            ignored=found.ignored,
            ignored_files=found.ignored_files,
            unread=tuple(path for paths in found.unread.values() for path in paths),
            seconds=seconds,
            engine=self._engines.report(),
            fp32_engine=self._engines.exact_report(),
            model=self._engines.model_report(),
            versions=versions(self._engines.packages()),
            machine=self._engines.machine(),
        )

    def process(self, jobs: Sequence[Job], options: RunOptions, resume: Resume, **listeners: Any) -> Waits:
        """Run jobs whose targets are decided; see :func:`gankit.pipeline.job_run.process`."""
        check_process()
        with self._lock:
            return process(self._engines, jobs, options, resume, **listeners)

    @property
    def engines(self) -> Engines:
        """The model and its engines, which one thread at a time may use."""
        return self._engines

    @property
    def facts(self) -> Facts:
        """The facts of the model, which the first use reads.

        Raises:
            UsageError, CheckpointError: See :meth:`gankit.pipeline.source.ModelSource.open`.
        """
        check_process()
        with self._lock:
            return self._engines.loaded().facts

    def close(self) -> None:
        """Release the engine. A closed pipeline cannot be used again. It is safe to call this twice."""
        if is_forked():  # where a thread of the parent may have held the lock
            return
        with self._lock:
            self._engines.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
