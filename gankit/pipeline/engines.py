"""The model and the engines of an upscaler, loaded when they are first needed. Imports no torch before."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any, Literal

from gankit import backends
from gankit.errors import NotFiniteError, UsageError
from gankit.models.facts import AtTest, Direction, Task
from gankit.pipeline.report import EngineReport, ModelReport

if TYPE_CHECKING:
    from gankit.backends.choice.select import Selection
    from gankit.checkpoints import Loaded
    from gankit.images import DecodedImage
    from gankit.pipeline.low_memory import Footprint
    from gankit.pipeline.processor import Stage

Auto = Literal["auto"]


@dataclass(frozen=True)
class _Ready:
    """An engine with its stage, and the seconds that it took to start."""

    selection: Selection
    stage: Stage
    seconds: float


@dataclass
class Engines:
    """One generator with the engine that was chosen for it, and a second one in fp32 where that is too coarse.

    bf16 keeps about 8 bits of an image and fp16 11. So 16-bit images and tensors run in fp32 unless the user chose
    a precision, and so does an image whose values leave the range of fp16.

    Not safe to call from several threads at once. The attributes are those of :class:`gankit.pipeline.Upscaler`.
    """

    model: str | Path
    backend: str
    precision: str
    device: str
    tile: int | Auto
    batch: int | Auto
    threads: int | None
    notify: Callable[[str], None] | None
    task: Task = "upscale"
    direction: Direction | None = None
    max_memory: int | None = None
    norm: AtTest | None = None
    options: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        self._loaded: Loaded | None = None
        self._fast: _Ready | None = None
        self._exact: _Ready | None = None
        self._low_memory: dict[str, _Ready] = {}
        self._footprint: Footprint | None = None
        self._closed = False

    def fast(self, job_pixels: int | None = None) -> Stage:
        """The stage for 8-bit images; loads the model and the engine at the first call.

        Args:
            job_pixels: input pixels of the whole job, if known.

        Raises:
            UsageError: closed, or a tile that is all halo.
            BackendError, CheckpointError, ParityError: no engine.
        """
        if self._closed:
            raise UsageError("this pipeline is closed: make a new one")
        if self._fast is None:
            began = perf_counter()
            from gankit.checkpoints import open_model

            loaded = open_model(self.model, direction=self.direction, norm=self.norm, options=self.options)
            if loaded.facts.task != self.task:
                command = f"gankit {loaded.facts.task}"
                raise UsageError(f"'{self.model}' is a model to {loaded.facts.task}, not to {self.task}: use {command}")
            self._loaded = loaded
            self._fast = self._start(began, self.backend, self.precision, self.device, job_pixels)
        return self._fast.stage

    def exact(self) -> Stage:
        """The stage for more than 8 bits; loads its engine at the first call.

        That is the chosen backend's, or eager's where ``auto`` chose one that compiles for minutes.

        Raises:
            BackendError, ParityError: no engine.
        """
        fast = self.fast().engine
        if self.precision != "auto" or fast.precision == "fp32":
            return self.fast()
        if self._exact is None:
            name = fast.backend
            if self.backend == "auto" and backends.get(name).slow_start:
                name = "eager"
            self._exact = self._start(perf_counter(), name, "fp32", fast.device)
            if self.notify is not None:
                which = f"images that need more than {fast.precision} (16 bit, values out of range)"
                self.notify(f"{which} run on {name} fp32")
        return self._exact.stage

    def image(self, image: DecodedImage, watch: Callable[[float], None] | None = None) -> DecodedImage:
        """One image through the engine that keeps its levels; once more in fp32 where fp16 overflows.

        Raises:
            NotFiniteError: it overflows in the precision that the user chose.
            MemoryError: see :meth:`Stage.image`.
        """
        stage = self.fast() if image.pixels.dtype == "uint8" else self.exact()
        try:
            return self._fitting(stage, image).image(image, watch)
        except NotFiniteError:
            if self.precision != "auto":
                raise
            return self._fitting(self.exact(), image).image(image, watch)

    def together(self, image: DecodedImage) -> tuple[Hashable, int]:
        """What images that share a call of the engine have in common, and how many do."""
        key = (image.pixels.dtype.str, image.pixels.shape)
        if image.pixels.dtype != "uint8":
            return key, 1
        stage = self._fitting(self.fast(), image)
        count = stage.together(image)
        return (*key, count > 1), count

    def most_together(self) -> int:
        """The largest number that :meth:`together` gives."""
        from gankit.pipeline.processor import MOST_TOGETHER

        return self.batch if self.batch != "auto" else MOST_TOGETHER if self.fast().engine.device != "cpu" else 1

    def images(self, images: Sequence[DecodedImage]) -> list[DecodedImage]:
        """Images that :meth:`together` finds alike, in one call.

        Raises:
            NotFiniteError, MemoryError: of one of them.
        """
        return self._fitting(self.fast(), images[0]).images(images)

    def _fitting(self, stage: Stage, image: DecodedImage) -> Stage:
        """The stage itself, or one layerwise where the image would take more memory than it may.

        A network that can be cut into tiles needs no other stage, and an engine that streams takes any image.
        """
        from gankit.pipeline.memory import available_memory

        engine = stage.engine
        if stage.facts.tileable or engine.wants == "images" or engine.device != "cpu":
            return stage
        from gankit.pipeline.low_memory import Footprint, layerwise

        assert self._loaded is not None
        if self._footprint is None:
            self._footprint = Footprint(self._loaded)
        limit = self.max_memory or available_memory() // 2
        if self._footprint.bytes(image.pixels.shape[0], image.pixels.shape[1], engine.precision) <= limit:
            return stage
        if engine.precision not in self._low_memory:
            began = perf_counter()
            selection = layerwise(self._loaded, engine.precision, self.threads, limit)
            ready = _Ready(selection, type(stage)(selection.engine, stage.facts, 0), perf_counter() - began)
            self._low_memory[engine.precision] = ready
            if self.notify is not None:
                self.notify(f"images above {limit / 1e9:.1f} GB of memory run on {selection.summary}")
        return self._low_memory[engine.precision].stage

    def close(self) -> None:
        """Give back the engines. Closing twice is fine."""
        for ready in (self._fast, self._exact, *self._low_memory.values()):
            if ready is not None:
                ready.selection.engine.close()
        self._loaded = self._fast = self._exact = self._footprint = None
        self._low_memory.clear()
        self._closed = True

    def report(self) -> EngineReport | None:
        """What ran."""
        return self._report(self._fast)

    def exact_report(self) -> EngineReport | None:
        """What ran the images of more than 8 bits, where that was another engine."""
        return self._report(self._exact)

    def model_report(self) -> ModelReport | None:
        """Which weights ran."""
        if self._loaded is None:
            return None
        facts = self._loaded.facts
        return ModelReport(facts.name, facts.scale, str(self._loaded.path), self._loaded.sha256, self.options or {})

    def machine(self) -> dict[str, Any]:
        """Facts of the machine; empty where nothing ran."""
        if self._fast is None:
            return {}
        from gankit.backends.choice.machine import machine

        return asdict(machine())

    def _start(self, began: float, backend: str, precision: str, device: str, job_pixels: int | None = None) -> _Ready:
        from gankit.backends.choice.select import select
        from gankit.models.receptive_field import halo
        from gankit.pipeline.processor import Stage
        from gankit.pipeline.translation import TranslationStage

        assert self._loaded is not None
        selection = select(
            self._loaded,
            backend=backend,
            precision=precision,
            device=device,
            threads=self.threads,
            job_pixels=job_pixels,
            notify=self.notify,
        )
        facts = self._loaded.facts
        # A norm over the whole image has no halo: such images are never cut.
        reach = halo(self._loaded.generator) if facts.tileable else 0
        kind = TranslationStage if facts.task == "translate" else Stage
        stage = kind(selection.engine, facts, reach, self.tile, self.batch)
        self._check_tile(stage)
        return _Ready(selection, stage, perf_counter() - began)

    def _check_tile(self, stage: Stage) -> None:
        """Before the first image, refuse a tile that is all halo; say it where tiles and batches are not used."""
        from gankit.pipeline.tiles import plan

        if stage.engine.wants == "images":
            given = [f"--{name}" for name, value in (("tile", self.tile), ("batch", self.batch)) if value != "auto"]
            if given and self.notify is not None:
                self.notify(f"{stage.engine.backend} takes whole images here: no use for {' and '.join(given)}")
        elif isinstance(self.tile, int):
            step = stage.facts.multiple
            longer = (self.tile // step + 2) * step
            plan(longer, longer, self.tile, stage.halo, step)  # raises

    def _report(self, ready: _Ready | None) -> EngineReport | None:
        if ready is None:
            return None
        engine, parity = ready.selection.engine, ready.selection.parity
        return EngineReport(
            backend=engine.backend,
            precision=engine.precision,
            device=engine.device,
            tile="streamed" if engine.wants == "images" else self.tile,
            batch=self.batch,
            parity_db=parity.psnr if parity else None,
            parity_max_abs=parity.max_abs if parity else None,
            start_seconds=ready.seconds,
            summary=ready.selection.summary,
        )
