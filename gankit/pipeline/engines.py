"""The model and the engines of a pipeline. They are loaded, and torch is imported, when they are first needed."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import asdict, replace
from time import perf_counter
from typing import TYPE_CHECKING, Any

from gankit import backends
from gankit.errors import NotFiniteError, UsageError
from gankit.memory import available_memory
from gankit.options import EngineOptions
from gankit.pipeline.contrast import has_contrast
from gankit.pipeline.forks import check_process, is_forked
from gankit.pipeline.items import Batching
from gankit.pipeline.journal import plain_json
from gankit.pipeline.opened import Opened, open_source
from gankit.pipeline.ready import Ready, engine_report, made_by
from gankit.pipeline.report import EngineReport, ModelReport
from gankit.pipeline.source import ModelSource
from gankit.pipeline.starting import check_backend, start

if TYPE_CHECKING:
    from gankit.backends.base import Engine
    from gankit.checkpoints import Loaded
    from gankit.images import DecodedImage
    from gankit.pipeline.processor import Processor


_GPU_WAIT = 0.005  # seconds; decoding a photo takes as long


class Engines:
    """One generator with its chosen engine, and with a second one in fp32 if an image needs it.

    bf16 keeps about 8 bits of an image and fp16 about 11. Unless the user chose a precision, 16-bit images and tensors
    therefore run in fp32, and so does an image whose values exceed the range of fp16.

    An instance must not be called from several threads at once.

    Args:
        source: the model.
        options: the engine options.
        notify: called with each line to report to the user.
    """

    def __init__(self, source: ModelSource, options: EngineOptions, notify: Callable[[str], None] | None) -> None:
        self.source, self.options, self.notify = source, options, notify
        self._opened: Opened | None = None
        self._fast: Ready | None = None
        self._exact: Ready | None = None
        self._low_memory: dict[str, Ready] = {}
        self._weights_sha256: str | None = None
        self._closed = False
        self._made_by: dict[int, Engine] = {}  # by the id of the pixels, which live until they are written

    def loaded(self) -> Loaded:
        """Return the model, which the first call opens.

        Raises:
            UsageError: If the pipeline is closed or the model is for another task.
            CheckpointError: If the model cannot be read.
            NoMemoryError: If there is no memory to load torch.
        """
        return self._open().loaded

    def _open(self) -> Opened:
        check_process()
        if self._closed:
            raise UsageError("this pipeline is closed; create a new one")
        if self._opened is None:
            self._opened = open_source(self.source, self.options.max_memory)
        return self._opened

    def check(self) -> None:
        """Check that an engine can run here, before anything is written.

        Raises:
            UsageError, BackendError, CheckpointError: If no engine can run the model.
        """
        if {self.options.backend, self.options.precision, self.options.device} == {"auto"}:
            return  # something always runs
        check_backend(self.loaded(), self.options)

    def fast(self, job_pixels: int | None = None, *, whole_job: bool = False) -> Processor:
        """Return the processor for 8-bit images. The first call loads the model and the engine.

        Args:
            job_pixels: number of input pixels of the whole job, if known.
            whole_job: whether this call begins a job and is the only one that it needs, so that a short job may run on
                an engine that starts soon.

        Raises:
            UsageError: If the pipeline is closed or the tile is too small for the halo.
            BackendError, CheckpointError, ParityError: If no engine can run the model.
        """
        check_process()
        if whole_job or job_pixels is not None:
            self.outgrow(math.inf if job_pixels is None else job_pixels)
        if self._closed or self._fast is None:
            began = perf_counter()
            self._open()
            self._fast = self._start(began, self.options, job_pixels, whole_job)
        return self._fast.processor

    def outgrow(self, job_pixels: float = math.inf) -> None:
        """Close the engine if it was chosen for less work than this, so that the next call chooses another one.

        Args:
            job_pixels: number of input pixels of the work; infinite if it is not known.
        """
        if self._fast is not None and job_pixels > self._fast.selection.most_pixels:
            self._fast.selection.engine.close()
            self._fast = None

    def exact(self) -> Processor:
        """Return the processor for images of more than 8 bits. The first call loads its engine.

        The engine is one of the chosen backend, or of eager if ``auto`` chose a backend that compiles for minutes.

        Raises:
            BackendError, ParityError: If no engine can run the model in fp32.
        """
        if self.options.precision != "auto":
            return self.fast()
        return self._wide()

    def _wide(self) -> Processor:
        """Return the processor in fp32, whichever precision the user chose. The first call loads its engine."""
        fast = self.fast().engine
        if fast.precision == "fp32":
            return self.fast()
        if self._exact is None:
            name = fast.backend
            if self.options.backend == "auto" and backends.get(name).slow_start:
                name = "eager"
            self._exact = self._start(
                perf_counter(), replace(self.options, backend=name, precision="fp32", device=fast.device)
            )
            if self.notify is not None:
                which = f"images that {fast.precision} cannot hold (16 bit, little contrast, values out of range)"
                self.notify(f"{which} run on {name} fp32")
        return self._exact.processor

    def image(self, image: DecodedImage, progress: Callable[[float], None] | None = None) -> DecodedImage:
        """Run one image through the engine that keeps its levels, and again in fp32 if fp16 overflows.

        Raises:
            NotFiniteError: If the image overflows in the precision that the user chose.
            NoMemoryError: See :meth:`Processor.image`.
        """
        processor = self._fitting(self._of(image), image)
        try:
            result = processor.image(image, progress)
        except NotFiniteError:
            if self.options.precision != "auto":
                raise
            processor = self._fitting(self.exact(), image)
            result = processor.image(image, progress)
        self._made_by[id(result.pixels)] = processor.engine
        return result

    def _of(self, image: DecodedImage) -> Processor:
        """Return the processor that keeps the levels of an image."""
        return self.of_levels(image.pixels.dtype == "uint8", lambda least: has_contrast(image.pixels, least))

    def of_levels(self, eight_bit: bool, has_contrast: Callable[[float], bool]) -> Processor:
        """Return the processor that keeps the levels of an image.

        Args:
            eight_bit: whether the image has 8 bits.
            has_contrast: whether its standard deviation reaches a number of levels; called only if that counts.
        """
        if not eight_bit:
            return self.exact()
        processor = self.fast()
        least = self._fast.selection.contrast if self._fast is not None else 0.0
        return processor if not least or has_contrast(least) else self._wide()

    def batch_key(self, image: DecodedImage) -> tuple[Hashable, int]:
        """Return a key that images must share to run in one call of the engine, and how many may do so."""
        processor = self._of(image)
        count = self._fitting(processor, image).shared_call(image)
        return (image.pixels.dtype.str, image.pixels.shape, count > 1, processor.engine.precision), count

    def largest_batch(self) -> int:
        """Return the largest number of images that :meth:`batch_key` allows."""
        from gankit.pipeline.processor import LARGEST_BATCH

        if self.options.batch != "auto":
            return self.options.batch
        engine = self.fast().engine
        return LARGEST_BATCH if engine.device != "cpu" else engine.at_once

    def images(self, images: Sequence[DecodedImage]) -> list[DecodedImage]:
        """Run images with the same :meth:`batch_key` in one call.

        Raises:
            NotFiniteError, MemoryError: If one of the images fails.
        """
        processor = self._fitting(self._of(images[0]), images[0])
        results = processor.images(images)
        self._made_by |= {id(result.pixels): processor.engine for result in results}
        return results

    def made_by(self, image: DecodedImage) -> dict[str, Any]:
        """Return the engine that made a result and its options, for the journal. It can be asked once."""
        engine = self._made_by.pop(id(image.pixels), None)
        return {} if engine is None else made_by(engine, self.options)

    def submit(self, images: Sequence[DecodedImage]) -> Callable[[], list[DecodedImage]] | None:
        """Start what :meth:`images` does; return a function that waits for its result, or ``None``.

        Returns:
            ``None`` if the engine gains nothing from it, or if the images need more than one call.

        Raises:
            MemoryError: If the images do not fit into memory.
        """
        if images[0].pixels.dtype != "uint8":
            return None
        processor = self._fitting(self._of(images[0]), images[0])
        finish = processor.submit(images)
        if finish is None:
            return None

        def results() -> list[DecodedImage]:
            made = finish()
            self._made_by |= {id(result.pixels): processor.engine for result in made}
            return made

        return results

    def batching(self) -> Batching:
        """Return how the images of a run share calls of the engine. A GPU is worth waiting for a few more images."""
        engine = self.fast().engine
        wait = _GPU_WAIT if engine.device != "cpu" else 0.0
        largest = self.largest_batch()
        return Batching(self.batch_key, self.images, largest, submit=self.submit, depth=engine.depth, wait=wait)

    def _fitting(self, processor: Processor, image: DecodedImage) -> Processor:
        """Return the processor itself, or a layerwise one if the image would exceed the memory limit.

        A tileable network needs no other processor, and an engine that streams accepts any image.
        """
        engine = processor.engine
        if processor.facts.tileable or engine.wants == "images" or engine.device != "cpu":
            return processor
        limit = available_memory(self.options.max_memory) // 2
        precision = "fp32" if engine.precision == "int8" else engine.precision  # int8 does not run layerwise
        if self._open().fits(image.pixels.shape[0], image.pixels.shape[1], precision, limit):
            return processor
        if precision not in self._low_memory:
            from gankit.backends.choice.low_memory import layerwise

            began = perf_counter()
            selection = layerwise(self.loaded(), precision, self.options.threads, limit)
            own = type(processor)(selection.engine, processor.facts, 0, max_memory=self.options.max_memory)
            ready = Ready(selection, own, perf_counter() - began)
            self._low_memory[precision] = ready
            if self.notify is not None:
                self.notify(f"images that need more than {limit / 1e9:.1f} GB of memory run on {selection.summary}")
        return self._low_memory[precision].processor

    def close(self) -> None:
        """Release the engines. It is safe to call this twice. In a fork, the parent's engines are left alone."""
        for ready in (self._fast, self._exact, *self._low_memory.values()):
            if ready is not None and not is_forked():
                ready.selection.engine.close()
        self._opened = self._fast = self._exact = None
        self._low_memory.clear()
        self._made_by.clear()
        self._closed = True

    def report(self) -> EngineReport | None:
        """Describe the engine that ran; ``None`` if none did."""
        return engine_report(self._fast, self.options)

    def exact_report(self) -> EngineReport | None:
        """Describe the engine for images of more than 8 bits, if it was another one."""
        return engine_report(self._exact, self.options)

    def model_report(self) -> ModelReport | None:
        """Describe the weights; ``None`` if none were loaded."""
        if self._opened is None:
            return None
        loaded = self._opened.loaded
        facts, options = loaded.facts, self.source.options or {}
        return ModelReport(facts.name, facts.scale, str(loaded.path), loaded.sha256, options)

    def weights_sha256(self) -> str:
        """Return the sha256 of the weights, hexadecimal. It loads the model only if it is not in a file.

        Raises:
            UsageError, CheckpointError: If the model cannot be read.
        """
        from gankit.pipeline.weights_identity import weights_sha256

        if self._weights_sha256 is None:
            self._weights_sha256 = weights_sha256(self.source) or self.loaded().sha256
        return self._weights_sha256

    def options_of_results(self) -> dict[str, Any]:
        """Return the options that determine the pixels of a result and are not at their defaults, as in JSON."""
        return plain_json({**self.options.of_results(), **self.source.of_results()})

    def packages(self) -> tuple[str, ...]:
        """Return the packages of the backends; none if nothing ran, because skipping files must not import torch."""
        if self._fast is None:
            return ()
        return tuple(package for name in backends.BACKENDS for package in backends.get(name).packages)

    def machine(self) -> dict[str, Any]:
        """Return the facts of the machine; empty if nothing ran."""
        if self._fast is None:
            return {}
        from gankit.backends.choice.machine import machine

        return asdict(machine())

    def _start(self, began: float, options: EngineOptions, job_pixels: int | None = None, whole: bool = False) -> Ready:
        notify, opened = self.notify, self._open()
        return start(opened, self.options, options, began=began, job_pixels=job_pixels, whole_job=whole, notify=notify)
