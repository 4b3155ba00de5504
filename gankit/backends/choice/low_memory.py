"""The engine for images that are too large to run at once."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from gankit_export.precision import DTYPES
from gankit_export.rewrites import for_inference
from torch.fx import GraphModule

from gankit.backends import get
from gankit.backends.base import EngineSpec, Precision
from gankit.backends.choice.candidates import offered
from gankit.backends.choice.probe import Probe, parity_message
from gankit.backends.choice.select import Selection
from gankit.backends.cpu.layerwise import working_bytes
from gankit.checkpoints import Loaded
from gankit.errors import ParityError

_TILE = (160, 192)
_BACKEND = "eager"  # the one that runs layerwise
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

        A layerwise run needs the graph, so that such a network runs at once or not at all.
        """
        if self._module is None:
            return 0
        step = self._facts.multiple
        tall, wide = (math.ceil(max(side, self._facts.minimum) / step) * step for side in (height, width))
        shape = (1, self._facts.channels, tall, wide)
        return _OVERHEAD * working_bytes(self._module, torch.empty(shape, device="meta"), DTYPES[precision].itemsize)


def layerwise(loaded: Loaded, precision: Precision, threads: int | None, max_bytes: int) -> Selection:
    """An engine that runs layerwise, behind the parity check as every engine.

    Args:
        loaded: the generator.
        precision: the wanted one; float32 where it is not offered.
        threads: as in :class:`EngineSpec`.
        max_bytes: for the layers' outputs.

    Raises:
        ParityError: its images are not those of float32.
    """
    backend = get(_BACKEND)
    spec = EngineSpec(loaded.generator, loaded.facts, threads=threads, layer_bytes=max_bytes)
    if precision in offered(backend, spec):
        spec = replace(spec, precision=precision)
    engine = backend.load(spec)
    parity = Probe.of(spec, _TILE).parity(engine)
    if not parity.passes():
        raise ParityError(f"layerwise runs, {spec.precision}: {parity_message(parity)}")
    return Selection(engine, parity, f"{_BACKEND} {spec.precision} layerwise, {parity_message(parity)}")
