"""One image in, one image out, or folders to folders, whatever the generator does to them.

Importing this module imports no torch; the first image does.
"""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any, ClassVar, Self, Unpack, overload

from gankit import backends
from gankit.errors import UsageError
from gankit.models.facts import AtTest, Direction, Facts, Task
from gankit.options import EngineOptions
from gankit.pipeline.engines import Engines
from gankit.pipeline.inputs import Job, collect
from gankit.pipeline.items import Batching, Progress
from gankit.pipeline.memory import available_memory
from gankit.pipeline.output import prepare, remove_stale
from gankit.pipeline.paths import exists, is_file, is_folder
from gankit.pipeline.records import Records
from gankit.pipeline.report import ImageReport, Report, versions
from gankit.pipeline.runner import Runner
from gankit.pipeline.source import ModelSource, PipelineKeywords, split_keywords

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image
    from torch import Tensor

    from gankit.images import DecodedImage
    from gankit.pipeline.source import Model

_SAMPLED_HEADERS = 32


class ImagePipeline:
    """Takes images through one generator and one engine, which is chosen and loaded at the first image.

    Under ``precision="auto"`` a second engine in fp32 joins it at the first image of more than 8 bits.

    Safe to call from several threads: the engine takes one image at a time. The subclasses say for which task.

    Args:
        model: a registry name, a weights file, a :class:`~gankit.checkpoints.Loaded` model, or an ``nn.Module`` of your
            own that takes and returns (N, C, H, W) floating point.
        engine: the options of the engine; the fields of :class:`~gankit.options.EngineOptions` can be given as keywords
            too, and win.
        notify: called with a line when something worth telling happens while the engine is chosen, or where inputs
            are results of others.
        direction: which generator of a pair, see :func:`gankit.checkpoints.open_model`.
        norm: what a BatchNorm goes by, likewise.
        options: of the model, in place of those that its weights file holds, likewise.
        facts: of your own module, as :class:`gankit.Facts`. Or state them by keyword: ``value_range``, ``scale``,
            ``channels``, ``multiple``, ``minimum``, ``tileable``, ``halo``. What is not stated is derived by running
            and tracing the module, and is an error where it cannot be.
        keywords: of the engine and of the module, as above.

    Attributes:
        task: that the model must be for.
        report: what the last :meth:`run` did, also where it was cut short; ``None`` where it did not come to images.

    Raises:
        UsageError: an unknown model, backend or precision, a tile, batch or thread count below 1.
    """

    task: ClassVar[Task]

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
    def __call__(self, image: Any) -> Any:
        """Take one image.

        Args:
            image: a Pillow image; a NumPy array (H, W), (H, W, 1), (H, W, 2), (H, W, 3) or (H, W, 4), uint8 or uint16,
                RGBA order; or a floating-point torch tensor (N, C, H, W) or (C, H, W) in [0, 1], C as the model has.

        Returns:
            The same kind: a Pillow image of the same mode (a palette becomes RGB or RGBA), an array of the same dtype
            and number of axes, or a tensor of the same dtype, device and number of axes, clamped to [0, 1].

        Raises:
            TypeError: another type or dtype.
            ValueError: another shape, or a tensor with values that are not finite.
        """
        from gankit.pipeline.convert import as_image, as_tensor, back

        decoded = as_image(image)
        with self._lock:
            facts = self._engines.fast().facts
            if decoded is not None:
                return back(self._engines.image(decoded), image)
            batch = as_tensor(image, facts.channels)
            return back(self._engines.exact().tensor(batch) if batch.shape[0] else batch, image, facts.scale)

    def run(
        self,
        inputs: Sequence[str | Path] | str | Path,
        output: str | Path | None = None,
        *,
        suffix: str = "",
        format: str | None = None,
        overwrite: bool = False,
        quality: int = 95,
        progress: Callable[[Progress], None] | None = None,
        failed: Callable[[ImageReport], None] | None = None,
    ) -> Report:
        """Take files and folders into a folder.

        Args:
            inputs: files, folders (recursive, mirrored) and patterns; see ``gankit.pipeline.inputs`` for the names.
            output: folder of the results, made where it is missing. ``None`` puts them beside their sources: those of
                ``photos/`` into ``photos_x4/``, that of ``a.png`` to ``a_x4.png`` (``_translated`` for a translator).
            suffix: added to each name before the extension.
            format: ``"png"``, ``"jpg"``, … for all results; ``None`` keeps each source's.
            overwrite: do again what is there; else it is skipped before it is decoded.
            quality: of JPEG and WebP, 1 to 100.
            progress: called now and then, from any thread, one call at a time.
            failed: called likewise with each image that fails, as it fails.

        Returns:
            What happened to each image. Broken images are in it; they raise nothing. Where an error or Ctrl-C
            ends the run, :attr:`report` has what was done.

        Raises:
            UsageError: wrong inputs or options.
            OutputError: the output cannot be written; what was written before is whole.
            BackendError, CheckpointError, ParityError: no engine.
        """
        from gankit import images

        if not 1 <= quality <= 100:
            raise UsageError(f"quality must be from 1 to 100, not {quality}")
        if isinstance(inputs, str | Path):
            inputs = [inputs]
        self.report = None
        mark = "" if output is not None else self._mark()
        found = collect(inputs, output, suffix=suffix, format=format, overwrite=overwrite, mark=mark)
        if found.places and self.notify:
            self.notify(f"writing to {_listed(found.places)}")
        if found.results and self.notify:
            self.notify(_passed_over(found.results))
        records = Records(found, Path(output or "."), failed)
        todo = [job for job in found.jobs if overwrite or not exists(job.target)]
        for job in set(found.jobs).difference(todo):
            records.add(ImageReport(job.source, job.target, "skipped"))
        if not todo:
            self.report = self._report(records, found.ignored, 0.0)
            return self.report
        with self._lock:
            self._engines.check()
        folders = {job.target.parent for job in todo}
        for folder in [Path(output)] if output is not None else sorted(folders):
            prepare(folder)
        for folder in folders if output is None else {Path(output), *folders}:
            remove_stale(folder)
        with self._lock:
            scale = self._engines.fast(_job_pixels(todo)).facts.scale
            began = perf_counter()
            try:
                Runner(
                    decode=images.decode,
                    work=self._engines.image,
                    encode=lambda image, target: images.encode(image, target, quality=quality),
                    cost=lambda image: _bytes(image, scale),
                    progress=progress,
                    record=records.add,
                    batching=Batching(self._engines.batch_key, self._engines.images, self._engines.largest_batch()),
                    **_hands(),
                ).run(todo)
            finally:
                self.report = self._report(records, found.ignored, perf_counter() - began)
        return self.report

    def _mark(self) -> str:
        """What follows a source's name in the name of its result where there is no output folder."""
        return f"_x{self.facts.scale}" if self.task == "upscale" else "_translated"

    def _report(self, records: Records, ignored: int, seconds: float) -> Report:
        return Report(
            images=records.images(),
            ignored=ignored,
            seconds=seconds,
            engine=self._engines.report(),
            fp32_engine=self._engines.exact_report(),
            model=self._engines.model_report(),
            versions=versions(self._engines.packages()),
            machine=self._engines.machine(),
        )

    @property
    def facts(self) -> Facts:
        """What is known of the model; reads it at the first use.

        Raises:
            UsageError, CheckpointError: see :meth:`gankit.pipeline.source.ModelSource.open`.
        """
        with self._lock:
            return self._engines.loaded().facts

    def close(self) -> None:
        """Give back the engine. A closed one cannot be used again; closing twice is fine."""
        with self._lock:
            self._engines.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def _listed(places: Sequence[Path]) -> str:
    """The first two of some folders and files, and how many more there are."""
    shown = [f"{path}{os.sep}" if not path.suffix or is_folder(path) else str(path) for path in places[:2]]
    return ", ".join(shown) + (f" and {len(places) - 2} more" if len(places) > 2 else "")


def _passed_over(results: Sequence[Path]) -> str:
    one = len(results) == 1
    which = f"{results[0]} is the result" if one else f"{results[0]} and {len(results) - 1} more are results"
    return f"{which} of other inputs: passed over"


def _bytes(image: DecodedImage, scale: int) -> int:
    """Memory of an image and its result."""
    own = image.pixels.nbytes + (0 if image.alpha is None else image.alpha.nbytes)
    return own * (1 + scale**2)


def _hands() -> dict[str, int]:
    """How many threads read and write, and how much they may hold, on this machine."""
    import psutil

    cores = psutil.cpu_count(logical=False) or 1
    return {
        "decoders": 1 if cores < 8 else 2,
        "encoders": max(1, min(8, cores - 1)),
        "max_bytes": max(256 << 20, min(4 << 30, available_memory() // 8)),
    }


def _job_pixels(jobs: Sequence[Job]) -> int | None:
    """About how many input pixels the jobs have, from the headers of some; ``None`` where none can be read."""
    from PIL import Image

    step = max(1, len(jobs) // _SAMPLED_HEADERS)
    sizes: list[int] = []
    for job in jobs[::step]:
        if not is_file(job.source):  # to open a pipe would wait for its writer
            continue
        try:
            with Image.open(job.source) as header:
                sizes.append(math.prod(header.size))
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
            continue  # reported when it is decoded
    return sum(sizes) * len(jobs) // len(sizes) if sizes else None
