"""What a user calls: one picture in, one picture out, or folders to folders.

Importing this module imports no torch; the first picture does.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any, Literal, Self, overload

from gankit import backends, models
from gankit.errors import UsageError
from gankit.pipeline.inputs import Job, collect
from gankit.pipeline.output import prepare
from gankit.pipeline.report import EngineReport, ModelReport, PictureReport, Report, versions
from gankit.pipeline.runner import Progress, Runner

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image
    from torch import Tensor

    from gankit.backends.choose import Selection
    from gankit.checkpoints import Loaded
    from gankit.images import Picture
    from gankit.pipeline.stages import Stage

Auto = Literal["auto"]
PRECISIONS = ("auto", "fp32", "bf16", "fp16")
_SAMPLED_HEADERS = 32


class Upscaler:
    """Upscales pictures with one generator and one engine, which is chosen and loaded at the first picture.

    Safe to call from several threads: the engine takes one picture at a time.

    Args:
        model: registry name, or a weights file.
        backend: name of a backend, or ``"auto"`` for the fastest that is installed and passes the parity gate.
        precision: ``"fp32"``, ``"bf16"``, ``"fp16"`` or ``"auto"``.
        device: ``"cpu"``, ``"cuda"``, ``"cuda:1"``, or ``"auto"``.
        tile: side of a tile in input pixels, halo included, or ``"auto"``.
        batch: tiles in one call of the engine, or ``"auto"``.
        threads: CPU threads of the engine; ``None`` for the number of cores.
        notify: called with a line when something worth telling happens while the engine is chosen.

    Raises:
        UsageError: an unknown model, backend or precision, a tile, batch or thread count below 1.
    """

    def __init__(
        self,
        model: str | Path = "srgan",
        *,
        backend: str = "auto",
        precision: str = "auto",
        device: str = "auto",
        tile: int | Auto = "auto",
        batch: int | Auto = "auto",
        threads: int | None = None,
        notify: Callable[[str], None] | None = None,
    ) -> None:
        if precision not in PRECISIONS:
            raise UsageError(f"unknown precision '{precision}': known are {', '.join(PRECISIONS)}")
        for name, value in (("tile", tile), ("batch", batch), ("threads", threads)):
            allowed = value is None if name == "threads" else value == "auto"
            if not allowed and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
                raise UsageError(f"{name} must be a whole number above 0, not {value!r}")
        if str(model) not in models.MODELS and not Path(model).exists():
            from gankit.checkpoints import open_model

            open_model(model)  # raises, naming the nearest model or the file
        if backend != "auto" and backend not in backends.BACKENDS:
            backends.get(backend)  # raises, naming the nearest
        self.model, self.backend, self.precision, self.device = model, backend, precision, device
        self.tile, self.batch, self.threads, self.notify = tile, batch, threads, notify
        self._lock = threading.RLock()
        self._loaded: Loaded | None = None
        self._selection: Selection | None = None
        self._stage: Stage | None = None
        self._start_seconds = 0.0
        self._closed = False

    @overload
    def __call__(self, image: Image.Image) -> Image.Image: ...
    @overload
    def __call__(self, image: np.ndarray) -> np.ndarray: ...
    @overload
    def __call__(self, image: Tensor) -> Tensor: ...
    def __call__(self, image: Any) -> Any:
        """Upscale one picture.

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
        from gankit.pipeline.convert import as_picture, as_tensor, back

        picture = as_picture(image)
        with self._lock:
            stage = self._ready(job_pixels=None)
            if picture is not None:
                return back(stage.picture(picture), image)
            batch = as_tensor(image, stage.facts.channels)
            return back(stage.tensor(batch) if batch.shape[0] else batch, image, stage.facts.scale)

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
    ) -> Report:
        """Upscale files and folders into a folder.

        Args:
            inputs: files, folders (recursive, mirrored) and patterns; see ``gankit.pipeline.inputs`` for the names.
            output: folder of the results, made where it is missing.
            suffix: added to each name before the extension.
            format: ``"png"``, ``"jpg"``, … for all results; ``None`` keeps each source's.
            overwrite: do again what is there; else it is skipped before it is decoded.
            quality: of JPEG and WebP, 1 to 100.
            progress: called now and then, from any thread, one call at a time.

        Returns:
            What happened to each picture. Broken pictures are in it; they raise nothing.

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
        found = collect(inputs, output, suffix=suffix, format=format)
        todo = [job for job in found.jobs if overwrite or not job.target.exists()]
        reports = {
            job.target: PictureReport(job.source, job.target, "skipped") for job in set(found.jobs).difference(todo)
        }
        seconds = 0.0
        if todo:
            prepare(Path(output))
            with self._lock:
                stage = self._ready(job_pixels=_job_pixels(todo))
                began = perf_counter()
                runner = Runner(
                    decode=images.decode,
                    work=stage.picture,
                    encode=lambda picture, target: images.encode(picture, target, quality=quality),
                    cost=lambda picture: _bytes(picture, stage.facts.scale),
                    progress=progress,
                    **_hands(),
                )
                reports |= {report.target: report for report in runner.run(todo)}
                seconds = perf_counter() - began
        return Report(
            pictures=tuple(reports[job.target] for job in found.jobs),
            ignored=found.ignored,
            seconds=seconds,
            engine=self._engine_report(),
            model=self._model_report(),
            versions=versions(),
            machine=self._machine(),
        )

    def close(self) -> None:
        """Give back the engine. A closed upscaler cannot be used again; closing twice is fine."""
        with self._lock:
            if self._selection is not None:
                self._selection.engine.close()
            self._selection = self._stage = self._loaded = None
            self._closed = True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _ready(self, job_pixels: int | None) -> Stage:
        """The stage; loads the model and the engine at the first call."""
        if self._closed:
            raise UsageError("this upscaler is closed: make a new one")
        if self._stage is None:
            began = perf_counter()
            from gankit.backends.choose import select
            from gankit.checkpoints import open_model
            from gankit.models.receptive_field import halo
            from gankit.pipeline.stages import Stage

            self._loaded = open_model(self.model)
            self._selection = select(
                self._loaded,
                backend=self.backend,
                precision=self.precision,
                device=self.device,
                threads=self.threads,
                job_pixels=job_pixels,
                notify=self.notify,
            )
            facts = self._loaded.facts
            # A norm over the whole picture has no halo: such pictures are never cut.
            reach = 0 if facts.norm == "instance" else halo(self._loaded.generator)
            self._stage = Stage(self._selection.engine, facts, reach, self.tile, self.batch)
            self._start_seconds = perf_counter() - began
        return self._stage

    def _engine_report(self) -> EngineReport | None:
        if self._selection is None:
            return None
        engine, parity = self._selection.engine, self._selection.parity
        return EngineReport(
            backend=engine.backend,
            precision=engine.precision,
            device=engine.device,
            tile="streamed" if engine.wants == "pictures" else self.tile,
            batch=self.batch,
            parity_db=parity.psnr if parity else None,
            parity_max_abs=parity.max_abs if parity else None,
            start_seconds=self._start_seconds,
            summary=self._selection.summary,
        )

    def _machine(self) -> dict[str, Any]:
        if self._selection is None:
            return {}
        from gankit.backends.machine import machine

        return asdict(machine())

    def _model_report(self) -> ModelReport | None:
        if self._loaded is None:
            return None
        facts = self._loaded.facts
        return ModelReport(facts.name, facts.scale, str(self._loaded.path), self._loaded.sha256)


def _bytes(picture: Picture, scale: int) -> int:
    """Memory of a picture and its result."""
    own = picture.pixels.nbytes + (0 if picture.alpha is None else picture.alpha.nbytes)
    return own * (1 + scale**2)


def _hands() -> dict[str, int]:
    """How many threads read and write, and how much they may hold, on this machine."""
    import psutil

    cores = psutil.cpu_count(logical=False) or 1
    return {
        "decoders": 1 if cores < 8 else 2,
        "encoders": max(1, min(8, cores - 1)),
        "max_bytes": max(256 << 20, min(4 << 30, psutil.virtual_memory().available // 8)),
    }


def _job_pixels(jobs: Sequence[Job]) -> int | None:
    """About how many input pixels the jobs have, from the headers of some; ``None`` where none can be read."""
    from PIL import Image

    step = max(1, len(jobs) // _SAMPLED_HEADERS)
    sizes: list[int] = []
    for job in jobs[::step]:
        try:
            with Image.open(job.source) as header:
                sizes.append(math.prod(header.size))
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
            continue  # told when it is decoded
    return sum(sizes) * len(jobs) // len(sizes) if sizes else None
