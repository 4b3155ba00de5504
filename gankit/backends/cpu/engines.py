"""Engines that take whole images on the CPU: streamed in strips, or layer by layer."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable

import torch
from gankit_export.precision import DTYPES
from torch import Tensor, fx

from gankit.backends.base import Engine, EngineSpec
from gankit.backends.cpu.layerwise import Layerwise
from gankit.backends.cpu.streaming import Stream
from gankit.backends.cpu.threads import default_threads, limited_threads
from gankit.backends.pixels import check, from_values, to_values

Write = Callable[[Tensor, int], None]


class _WholeImageEngine(Engine):
    """Runs the images of a batch one after the other, each into its part of one canvas, rows from the top."""

    def __init__(self, backend: str, spec: EngineSpec) -> None:
        super().__init__(backend, spec)
        self.wants = "images"
        self._facts, self._threads = spec.facts, spec.threads or default_threads()
        self._dtype = DTYPES[spec.precision]

    def run(self, *tensors: Tensor) -> Tensor:
        """See :meth:`Engine.run`."""
        check(tensors, self._facts)
        (batch,) = tensors
        count, channels, height, width = batch.shape
        channels = self._facts.out_channels or channels
        scale = self._facts.scale
        canvas = torch.empty((count, height * scale, width * scale, channels), dtype=batch.dtype).permute(0, 3, 1, 2)
        with torch.inference_mode(), limited_threads(self._threads):
            for image, target in zip(batch.split(1), canvas.split(1), strict=True):

                def write(rows: Tensor, row: int, target: Tensor = target) -> None:
                    target[:, :, row : row + rows.shape[2]] = from_values(rows, self._facts, batch.dtype)

                self._image(image, write)
        return canvas

    @abstractmethod
    def _image(self, image: Tensor, write: Write) -> None:
        """Run one image (1, C, H, W); hand its rows in the generator's values to ``write``."""


class StreamingEngine(_WholeImageEngine):
    """Whole images, streamed in strips.

    Args:
        backend: name of the backend.
        spec: what to run.
        stream: the generator arranged for strips.
    """

    def __init__(self, backend: str, spec: EngineSpec, stream: Stream) -> None:
        super().__init__(backend, spec)
        self._stream = stream

    def _image(self, image: Tensor, write: Write) -> None:
        self._stream.run(image, lambda rows: to_values(rows, self._facts, self._dtype), write)


class LayerwiseEngine(_WholeImageEngine):
    """Whole images of a network with whole-image norms, layer by layer in a bounded memory.

    Args:
        backend: name of the backend.
        spec: what to run; ``layer_bytes`` bounds what the layers' outputs take in memory.
        module: the generator's graph in the precision to run in.
    """

    def __init__(self, backend: str, spec: EngineSpec, module: fx.GraphModule) -> None:
        super().__init__(backend, spec)
        assert spec.layer_bytes is not None
        self._plan = Layerwise(module, spec.layer_bytes)

    def _image(self, image: Tensor, write: Write) -> None:
        self._plan.run(to_values(image, self._facts, self._dtype), write)
