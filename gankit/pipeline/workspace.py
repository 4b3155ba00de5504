"""Estimate the memory in which an engine works, besides the image and its result. Imports no torch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from gankit_export.precisions import EnginePrecision

from gankit.backends.base import Engine
from gankit.backends.memory import free_memory
from gankit.memory import available_memory
from gankit.models.facts import Facts

LEAST_PIXELS = 64 * 64
_VALUE_BYTES: Mapping[EnginePrecision, int] = MappingProxyType({"fp32": 4, "bf16": 2, "fp16": 2, "int8": 4})
_MOST_BYTES = 3 << 30
_CHANNELS = 64  # of the body of most generators
_LEAST_ROWS = 16  # of a strip
STRIP_BYTES = 8 << 20  # of one layer's output, as in gankit.backends.cpu.streaming
_PROBE_PIXELS = 96 * 128  # of the image on which the parity is measured on a CPU
_START_BYTES = 48 << 20
_EXPORT_BYTES = 320 << 20


def start_bytes(facts: Facts, *, export: bool = False) -> int:
    """Estimate the memory that loading an engine and checking its parity takes, besides torch and the weights.

    SRGAN took 0.20 GB in eager, and 0.52 GB in OpenVINO and ONNX Runtime with the export.

    Args:
        facts: facts of the generator.
        export: whether the generator is exported, which the comparison of all backends does.
    """
    channels = int(facts.options.get("channels", 0))
    probe = 0 if facts.task == "generate" else _PROBE_PIXELS * 3 * 4 * channels * facts.scale**2
    return _START_BYTES + probe + (_EXPORT_BYTES if export else 0)


def batch_bytes(facts: Facts, batch: int) -> int:
    """Estimate the memory in which a batch of samples is generated.

    Args:
        facts: facts of a model that generates from noise.
        batch: number of samples.
    """
    channels = int(facts.options.get("channels", 0)) or facts.channels
    return 3 * 4 * batch * channels * math.prod(facts.output_size or (0,))


@dataclass(frozen=True)
class Workspace:
    """The memory in which one engine works.

    The largest activations have the channels of the body at the size of the output. At most three of them exist at a
    time. The runtimes reuse so much of that memory that SRGAN takes half of it: on a tile of 384², 0.44 GB in OpenVINO
    and 0.80 GB in ONNX Runtime of the 1.81 GB. Tiles are planned with all of it, and an image is refused only if half
    of it is missing.

    Attributes:
        engine: the engine.
        facts: facts of its generator.
        halo: halo of its generator in input pixels.
        max_memory: bytes that the process may use in all; ``None`` sets no limit besides those of the system.
    """

    engine: Engine
    facts: Facts
    halo: int
    max_memory: int | None = None

    def max_pixels(self) -> int:
        """Estimate how many input pixels the engine can process at once: at least 64²."""
        each = self._planned_bytes
        if self.engine.device.startswith("cuda"):
            width = self._channels or _CHANNELS
            indexable = (2**31 - 1) // (width * self.facts.scale**2)  # larger tensors make cuDNN fail or slow
            most = min(free_memory(self.engine.device) // 2 // each, indexable)
        else:
            most = min(_MOST_BYTES, available_memory(self.max_memory) // 4) // each
        return max(LEAST_PIXELS, most)

    def now(self, max_pixels: int, result_bytes: int) -> int:
        """Return how many of ``max_pixels`` the engine can process now, beside a result that is yet to be allocated.

        Images that wait to be written take memory, too, and the limits of a container are shared with other processes.
        """
        if self.engine.device != "cpu":
            return max_pixels
        room = available_memory(self.max_memory) - result_bytes
        return max(LEAST_PIXELS, min(max_pixels, room // self._planned_bytes))

    def least_bytes(self, height: int, width: int, tile: int | Literal["auto"], batch: int) -> int:
        """Estimate the least memory in which the engine runs an image; 0 for engines whose memory is not known.

        These are engines on a GPU, networks that need the whole image (:class:`Footprint` estimates those), and
        modules of users.

        Args:
            height: height of the image in pixels.
            width: width of the image in pixels.
            tile: side of a tile in pixels, if it is fixed.
            batch: tiles per call, at least.
        """
        known = self.engine.pixel_bytes
        if self.engine.device != "cpu" or not self.facts.tileable or not (self._channels or known):
            return 0
        each = known or self._planned_bytes // 2
        if self.engine.wants == "images":
            value = _VALUE_BYTES[self.engine.precision] * self._channels
            rows = min(height, max(_LEAST_ROWS, STRIP_BYTES // (value * width)))
            kept = 2 * self.halo * value * self.engine.at_once  # layers keep as many rows as they look back on
            return width * (rows * each + kept)
        side = max(4 * self.halo, 32) if tile == "auto" else tile
        pixels = min(side, height) * min(side, width)
        if tile == "auto":
            pixels = min(height * width, max(LEAST_PIXELS, pixels))
        return each * pixels * batch

    @property
    def _channels(self) -> int:
        """Channels of the generator's body; 0 if they are not known."""
        return int(self.facts.options.get("channels", 0))

    @property
    def _planned_bytes(self) -> int:
        """Bytes for each input pixel with which tiles are planned."""
        if self.engine.pixel_bytes is not None:
            return self.engine.pixel_bytes
        channels = self._channels or _CHANNELS
        return math.prod((3, _VALUE_BYTES[self.engine.precision], channels, self.facts.scale**2))
