"""Engines that take whole images on the CPU: streamed in strips, or layer by layer."""

from __future__ import annotations

import threading
from functools import partial
from queue import SimpleQueue

import torch
from gankit_export.precision import DTYPES
from gankit_export.receptive_field import halo
from torch import Tensor, fx

from gankit.backends.base import Engine, EngineSpec
from gankit.backends.cpu.heap import keep_freed_memory
from gankit.backends.cpu.layerwise import Layerwise
from gankit.backends.cpu.parts import Cutting, Part, Span
from gankit.backends.cpu.streaming import STRIP_BYTES, Stream
from gankit.backends.cpu.threads import default_threads, limited_threads
from gankit.backends.cpu.workers import Workers
from gankit.backends.pixels import check, from_values, to_values
from gankit.models.facts import Facts

LEAST_STRIP_BYTES = 2 << 20  # of a stream on one core of many


class StreamingEngine(Engine):
    """Whole images, streamed in strips.

    Every core runs a stream of its own: of one image each, or of a part of the image. Where the parts of an image would
    overlap too much, the cores share its layers.

    Args:
        backend: name of the backend.
        spec: what to run.
        stream: the generator arranged for strips.
    """

    def __init__(self, backend: str, spec: EngineSpec, stream: Stream) -> None:
        super().__init__(backend, spec)
        self.wants = "images"
        self._facts, self._threads = spec.facts, spec.threads or default_threads()
        self.at_once = self._threads
        self._dtype = DTYPES[spec.precision]
        self._stream = stream  # runs with all threads
        self._idle: SimpleQueue[Stream] = SimpleQueue()  # each runs with one
        self._workers: Workers | None = None
        self._lock = threading.Lock()
        try:
            reach: int | None = halo(stream.module)
        except ValueError:  # a stream runs layers whose reach is not known
            reach = None
        own = STRIP_BYTES if self._threads == 1 else max(STRIP_BYTES // self._threads, LEAST_STRIP_BYTES)
        self._cutting = Cutting(reach, self._facts.multiple, self._threads, stream.pixel_bytes, own)
        keep_freed_memory()

    def run(self, *tensors: Tensor) -> Tensor:
        """See :meth:`Engine.run`."""
        check(tensors, self._facts)
        (batch,) = tensors
        canvas = _canvas(batch, self._facts)
        images = list(zip(batch.split(1), canvas.split(1), strict=True))
        parts = self._cutting.parts(batch.shape[2], batch.shape[3], len(images))
        if parts is None or self._threads == 1:
            with torch.inference_mode(), limited_threads(self._threads):
                for image, target in images:
                    for part in parts or _whole(image):
                        self._run_part(self._stream, image, target, part)
            return canvas
        self._start_workers().run(
            partial(self._run_alone, image, target, part) for image, target in images for part in parts
        )
        return canvas

    def close(self) -> None:
        """End the threads."""
        with self._lock:
            if self._workers is not None:
                self._workers.close()
            self._workers = None

    def _start_workers(self) -> Workers:
        with self._lock:
            if self._workers is None:
                self._workers = Workers(self._threads)
                while self._idle.qsize() < self._threads:
                    self._idle.put(self._stream.copy(self._cutting.strip_bytes))
            return self._workers

    def _run_alone(self, image: Tensor, target: Tensor, part: Part) -> None:
        stream = self._idle.get()
        try:
            with torch.inference_mode():
                self._run_part(stream, image, target, part)
        finally:
            self._idle.put(stream)

    def _run_part(self, stream: Stream, image: Tensor, target: Tensor, part: Part) -> None:
        """Run a part of an image (1, C, H, W), and write what it keeps into its place in the result."""
        down, across, scale = part.down, part.across, self._facts.scale
        left, right = across.keep * scale, across.stop * scale
        first = (across.keep - across.start) * scale

        def write(rows: Tensor, row: int) -> None:
            top, bottom = max(row, down.keep * scale), min(row + rows.shape[2], down.stop * scale)
            if top < bottom:
                kept = rows[:, :, top - row : bottom - row, first : first + right - left]
                target[:, :, top:bottom, left:right] = from_values(kept, self._facts, target.dtype)

        stream.run(
            image[:, :, down.start : down.end, across.start : across.end],
            lambda rows: to_values(rows, self._facts, self._dtype),
            write,
            down.start,
            down.end == image.shape[2],
        )


def _whole(image: Tensor) -> list[Part]:
    """The whole of an image (1, C, H, W) as its only part."""
    height, width = image.shape[2:]
    return [Part(Span(0, 0, height, height), Span(0, 0, width, width))]


def _canvas(batch: Tensor, facts: Facts) -> Tensor:
    """Room for the results of a batch, channels_last."""
    count, channels, height, width = batch.shape
    shape = (count, height * facts.scale, width * facts.scale, facts.out_channels or channels)
    return torch.empty(shape, dtype=batch.dtype).permute(0, 3, 1, 2)


class LayerwiseEngine(Engine):
    """Whole images of a network with whole-image norms, layer by layer in a bounded memory.

    Args:
        backend: name of the backend.
        spec: what to run; ``layer_bytes`` bounds what the layers' outputs take in memory.
        module: the generator's graph in the precision to run in.
    """

    def __init__(self, backend: str, spec: EngineSpec, module: fx.GraphModule) -> None:
        super().__init__(backend, spec)
        assert spec.layer_bytes is not None
        self.wants = "images"
        self._facts, self._threads = spec.facts, spec.threads or default_threads()
        self._dtype = DTYPES[spec.precision]
        self._plan = Layerwise(module, spec.layer_bytes)

    def run(self, *tensors: Tensor) -> Tensor:
        """See :meth:`Engine.run`. Runs the images of a batch one after the other."""
        check(tensors, self._facts)
        (batch,) = tensors
        canvas = _canvas(batch, self._facts)
        with torch.inference_mode(), limited_threads(self._threads):
            for image, target in zip(batch.split(1), canvas.split(1), strict=True):

                def write(rows: Tensor, row: int, target: Tensor = target) -> None:
                    target[:, :, row : row + rows.shape[2]] = from_values(rows, self._facts, batch.dtype)

                self._plan.run(to_values(image, self._facts, self._dtype), write)
        return canvas
