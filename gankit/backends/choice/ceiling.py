"""The rate of a machine at convolutions: the ceiling to which the speed of an engine is compared."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from gankit_export.precision import DTYPES
from gankit_export.precisions import Precision
from torch import Tensor
from torch.nn import functional

from gankit.backends.cpu.threads import limited_threads
from gankit.backends.cuda.precision import exact_fp32

_KERNEL = 3
_GPU_CALLS = 10  # before the processor waits, so that launches do not count


@dataclass(frozen=True)
class Shape:
    """The shape of a convolution 3×3 with as many output as input channels.

    Attributes:
        batch: number of images.
        channels: number of channels.
        height: rows of input and output.
        width: columns of input and output.
    """

    batch: int
    channels: int
    height: int
    width: int

    @property
    def flop(self) -> float:
        """Floating-point operations of one call: a multiplication and an addition count as two."""
        return 2.0 * self.batch * self.height * self.width * self.channels**2 * _KERNEL**2


CPU_SHAPES = (Shape(1, 64, 96, 128), Shape(1, 128, 64, 96), Shape(1, 256, 48, 64))
GPU_SHAPES = (Shape(8, 256, 128, 128), Shape(8, 512, 64, 64), Shape(16, 1024, 32, 32))


class Ceiling:
    """Convolutions of the shape that runs at the highest rate here, by torch.

    Networks of wide convolutions come close to this rate. Those of narrow ones do not, because they move more bytes for
    each operation.

    Args:
        device: ``"cpu"``, ``"cuda"``, ``"cuda:1"``, …
        precision: precision of the convolutions.
        threads: number of CPU threads; ``None`` leaves torch's own number.

    Attributes:
        shape: the chosen shape.
        flop: floating-point operations of one :meth:`run`.
    """

    def __init__(self, device: str, precision: Precision, threads: int | None = None) -> None:
        self._device, self._precision, self._threads = device, precision, threads
        self._on_gpu = not device.startswith("cpu")
        self._calls = _GPU_CALLS if self._on_gpu else 1
        shapes = GPU_SHAPES if self._on_gpu else CPU_SHAPES
        rates = {}
        for shape in shapes:
            self._prepare(shape)
            self.run()  # oneDNN makes its code, and cuDNN searches
            rates[shape] = shape.flop / self.run()
        self.shape = max(shapes, key=rates.__getitem__)
        self._prepare(self.shape)
        self.run()

    @property
    def flop(self) -> float:
        """Floating-point operations of one :meth:`run`."""
        return self.shape.flop * self._calls

    def run(self) -> float:
        """Run the convolution, on a GPU several times, and return the seconds."""
        with (
            limited_threads(None if self._on_gpu else self._threads),
            torch.inference_mode(),
            _search(self._on_gpu),
            exact_fp32(self._device, self._precision),
        ):
            self._wait()
            began = time.perf_counter()
            for _ in range(self._calls):
                functional.conv2d(self._image, self._weight, padding=_KERNEL // 2)
            self._wait()
            return time.perf_counter() - began

    def _prepare(self, shape: Shape) -> None:
        sides = shape.channels, shape.height, shape.width
        image = torch.rand(shape.batch, *sides, device=self._device)
        weight = torch.rand(shape.channels, shape.channels, _KERNEL, _KERNEL, device=self._device)
        dtype, layout = DTYPES[self._precision], torch.channels_last
        self._image: Tensor = image.to(dtype, memory_format=layout)
        self._weight: Tensor = weight.to(dtype, memory_format=layout)

    def _wait(self) -> None:
        if self._on_gpu:
            torch.cuda.synchronize(self._device)


@contextmanager
def _search(wanted: bool) -> Iterator[None]:
    """Let cuDNN search for the fastest algorithm inside the context."""
    before = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = wanted or before
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before
