"""The engine for pictures that are too large to run at once. Imports torch."""

from __future__ import annotations

import math

import torch
from gankit_export.precision import DTYPES
from gankit_export.rewrites import for_inference
from torch.fx import GraphModule

from gankit.backends.base import Precision, Request
from gankit.backends.choose import Selection
from gankit.backends.eager import EagerBackend, LockstepEngine
from gankit.backends.lockstep import working_bytes
from gankit.backends.parity import compare, reference
from gankit.backends.pixels import from_values, to_values
from gankit.backends.race import psnr, real_tile
from gankit.checkpoints import Loaded
from gankit.errors import ParityError

_OVERHEAD = 2  # a runtime's work space and its copies, over the layers' outputs alone


class Footprint:
    """How much memory a generator needs for a picture.

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
        """About what an engine takes for a picture of so many pixels; 0 of a network without a graph.

        Bands in lock-step need the graph, so that such a network runs at once or not at all.
        """
        if self._module is None:
            return 0
        step = self._facts.multiple
        tall, wide = (math.ceil(max(side, self._facts.minimum) / step) * step for side in (height, width))
        shape = (1, self._facts.channels, tall, wide)
        return _OVERHEAD * working_bytes(self._module, torch.empty(shape, device="meta"), DTYPES[precision].itemsize)


def lockstep(loaded: Loaded, precision: Precision, threads: int | None, max_bytes: int) -> Selection:
    """Eager in bands in lock-step, behind the gate as every engine.

    Args:
        loaded: the generator.
        precision: the wanted one; float32 where eager does not offer it.
        threads: as in :class:`Request`.
        max_bytes: for the layers' outputs.

    Raises:
        ParityError: its pictures are not those of float32.
    """
    if precision not in EagerBackend.precisions["cpu"]:
        precision = "fp32"
    engine = LockstepEngine(Request(loaded.generator, loaded.facts, precision, "cpu", threads), max_bytes)
    tile = real_tile(loaded.facts.channels, loaded.facts.multiple)
    wanted = reference(loaded.generator, to_values(tile, loaded.facts))
    parity = compare(engine.run(tile), from_values(wanted, loaded.facts, torch.float32))
    if not parity.passes():
        raise ParityError(f"bands in lock-step, {precision}: {psnr(parity)} from fp32")
    return Selection(engine, parity, f"eager {precision} in bands in lock-step, {psnr(parity)} from fp32")
