"""One image in, one image out, or folders to folders, whatever the generator does to them.

Importing this module imports no torch; the first image does.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any, ClassVar, Self, overload

from gankit import backends, models
from gankit.errors import UsageError
from gankit.models.facts import AtTest, Direction, Task
from gankit.pipeline.engines import Auto, Engines
from gankit.pipeline.inputs import Job, collect
from gankit.pipeline.items import Progress, Together
from gankit.pipeline.memory import available_memory
from gankit.pipeline.output import prepare, remove_stale
from gankit.pipeline.paths import exists, is_file
from gankit.pipeline.records import Records
from gankit.pipeline.report import ImageReport, Report, versions
from gankit.pipeline.runner import Runner

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image
    from torch import Tensor

    from gankit.images import DecodedImage

PRECISIONS = ("auto", "fp32", "bf16", "fp16")
_SAMPLED_HEADERS = 32


class ImagePipeline:
    """Takes images through one generator and one engine, which is chosen and loaded at the first image.

    Under ``precision="auto"`` a second engine in fp32 joins it at the first image of more than 8 bits.

    Safe to call from several threads: the engine takes one image at a time. The subclasses say for which task.

    Args:
        model: registry name, or a weights file.
        backend: name of a backend, or ``"auto"`` for the fastest that is installed and passes the parity gate.
        precision: ``"fp32"``, ``"bf16"``, ``"fp16"``, or ``"auto"``: the fastest for 8-bit images; fp32 for 16-bit
            ones and tensors, whose levels the others do not keep.
        device: ``"cpu"``, ``"cuda"``, ``"cuda:1"``, or ``"auto"``.
        tile: side of a tile in input pixels, halo included, or ``"auto"``.
        batch: tiles, or images of one size, in one call of the engine, or ``"auto"``.
        threads: CPU threads of the engine; ``None`` for the number of cores.
        notify: called with a line when something worth telling happens while the engine is chosen, or where inputs
            are results of others.
        max_memory: bytes that one image's layers may take; ``None`` for half of what is free. Beyond it a network
            that looks at the whole image runs layerwise; others are cut into tiles anyway.
        direction: which generator of a pair, see :func:`gankit.checkpoints.open_model`.
        norm: what a BatchNorm goes by, likewise.
        options: of the model, in place of those that its weights file tells, likewise.

    Attributes:
        task: that the model must be for.
        report: what the last :meth:`run` did, also where it was cut short; ``None`` where it did not come to images.

    Raises:
        UsageError: an unknown model, backend or precision, a tile, batch or thread count below 1.
    """

    task: ClassVar[Task]

    def __init__(
        self,
        model: str | Path,
        *,
        backend: str = "auto",
        precision: str = "auto",
        device: str = "auto",
        tile: int | Auto = "auto",
        batch: int | Auto = "auto",
        threads: int | None = None,
        notify: Callable[[str], None] | None = None,
        direction: Direction | None = None,
        max_memory: int | None = None,
        norm: AtTest | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        if precision not in PRECISIONS:
            raise UsageError(f"unknown precision '{precision}': known are {', '.join(PRECISIONS)}")
        for name, value in (("tile", tile), ("batch", batch), ("threads", threads)):
            allowed = value is None if name == "threads" else value == "auto"
            if not allowed and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
                raise UsageError(f"{name} must be a whole number above 0, not {value!r}")
        if max_memory is not None and max_memory < 1:
            raise UsageError(f"max_memory must be bytes above 0, not {max_memory!r}")
        if not models.is_known(str(model)) and not exists(model):
            from gankit.checkpoints import open_model

            # raises, naming the nearest model or the file
            open_model(model, direction=direction, norm=norm, options=options)
        if backend != "auto" and backend not in backends.BACKENDS:
            backends.get(backend)  # raises, naming the nearest
        self.model, self.backend, self.precision, self.device = model, backend, precision, device
        self.tile, self.batch, self.threads, self.notify = tile, batch, threads, notify
        self.report: Report | None = None
        self._lock = threading.RLock()
        self._engines = Engines(
            model,
            backend,
            precision,
            device,
            tile,
            batch,
            threads,
            notify,
            self.task,
            direction,
            max_memory,
            norm,
            options,
        )

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
        output: str | Path,
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
            output: folder of the results, made where it is missing.
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
        found = collect(inputs, output, suffix=suffix, format=format, overwrite=overwrite)
        if found.results and self.notify:
            self.notify(_passed_over(found.results))
        records = Records(found, Path(output), failed)
        todo = [job for job in found.jobs if overwrite or not exists(job.target)]
        for job in set(found.jobs).difference(todo):
            records.add(ImageReport(job.source, job.target, "skipped"))
        if not todo:
            self.report = self._report(records, found.ignored, 0.0)
            return self.report
        prepare(Path(output))
        for folder in {Path(output), *(job.target.parent for job in todo)}:
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
                    together=Together(self._engines.together, self._engines.images, self._engines.most_together()),
                    **_hands(),
                ).run(todo)
            finally:
                self.report = self._report(records, found.ignored, perf_counter() - began)
        return self.report

    def _report(self, records: Records, ignored: int, seconds: float) -> Report:
        return Report(
            images=records.images(),
            ignored=ignored,
            seconds=seconds,
            engine=self._engines.report(),
            fp32_engine=self._engines.exact_report(),
            model=self._engines.model_report(),
            versions=versions(),
            machine=self._engines.machine(),
        )

    def close(self) -> None:
        """Give back the engine. A closed one cannot be used again; closing twice is fine."""
        with self._lock:
            self._engines.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


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
