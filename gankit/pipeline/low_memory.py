"""The engine for images that are too large to run at once. Imports torch."""

from __future__ import annotations

import math

import torch
from gankit_export.precision import DTYPES
from gankit_export.rewrites import for_inference
from torch.fx import GraphModule

from gankit.backends.base import Precision, Request
from gankit.backends.choice.benchmark import psnr, real_tile
from gankit.backends.choice.parity import compare, reference
from gankit.backends.choice.select import Selection
from gankit.backends.cpu.layerwise import working_bytes
from gankit.backends.eager import EagerBackend, LayerwiseEngine
from gankit.backends.pixels import from_values, to_values
from gankit.checkpoints import Loaded
from gankit.errors import ParityError

_OVERHEAD = 2  # a runtime's work space and its copies, over the layers' outputs alone


class Footprint:
    """How much memory a generator needs for an image.

    Args:
        loaded: the generator.
    """

    def __init__(self, loaded: Loaded) -> None:
        self._facts = loaded.facts
        self._module: GraphModule | None
        try:
            self._module = for_inference(loaded.generator)
        except ValueError:
            self._module = None

    def bytes(self, height: int, width: int, precision: Precision) -> int:
        """About what an engine takes for an image of so many pixels; 0 of a network without a graph.

        Strips in layerwise need the graph, so that such a network runs at once or not at all.
        """
        if self._module is None:
            return 0
        step = self._facts.multiple
        tall, wide = (math.ceil(max(side, self._facts.minimum) / step) * step for side in (height, width))
        shape = (1, self._facts.channels, tall, wide)
        return _OVERHEAD * working_bytes(self._module, torch.empty(shape, device="meta"), DTYPES[precision].itemsize)


def layerwise(loaded: Loaded, precision: Precision, threads: int | None, max_bytes: int) -> Selection:
    """Eager layerwise, behind the gate as every engine.

    Args:
        loaded: the generator.
        precision: the wanted one; float32 where eager does not offer it.
        threads: as in :class:`Request`.
        max_bytes: for the layers' outputs.

    Raises:
        ParityError: its images are not those of float32.
    """
    if precision not in EagerBackend.precisions["cpu"]:
        precision = "fp32"
    engine = LayerwiseEngine(Request(loaded.generator, loaded.facts, precision, "cpu", threads), max_bytes)
    tile = real_tile(loaded.facts.channels, loaded.facts.multiple)
    wanted = reference(loaded.generator, to_values(tile, loaded.facts))
    parity = compare(engine.run(tile), from_values(wanted, loaded.facts, torch.float32))
    if not parity.passes():
        raise ParityError(f"layerwise runs, {precision}: {psnr(parity)} from fp32")
    return Selection(engine, parity, f"eager {precision} layerwise, {psnr(parity)} from fp32")
