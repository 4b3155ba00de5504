"""The layerwise engine for images that are too large to run at once."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from gankit_export.calls import LayerError
from gankit_export.precision import DTYPES
from gankit_export.precisions import Precision
from gankit_export.rewrites import for_inference
from torch.fx import GraphModule

from gankit.backends import get
from gankit.backends.base import EngineSpec
from gankit.backends.choice.candidates import Candidate, offered
from gankit.backends.choice.parity import parity_message
from gankit.backends.choice.probe import Probe
from gankit.backends.choice.select import Selection
from gankit.backends.cpu.layerwise import working_bytes
from gankit.checkpoints import Loaded
from gankit.errors import ParityError

_TILE = (160, 192)
_BACKEND = "eager"  # the only backend that runs layerwise
_OVERHEAD = 2  # factor for the work space and the copies of a runtime, besides the outputs of the layers


class Footprint:
    """Estimates how much memory a generator needs for an image.

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
        """Estimate the memory of an engine for an image in bytes; 0 for a network that cannot run layerwise.

        Layerwise runs need a traced network, so that any other one runs at once or not at all.

        Args:
            height: height of the image in pixels.
            width: width of the image in pixels.
            precision: precision of the engine.
        """
        if self._module is None:
            return 0
        step = self._facts.multiple
        tall, wide = (math.ceil(max(side, self._facts.minimum) / step) * step for side in (height, width))
        shape = (1, self._facts.channels, tall, wide)
        image = torch.empty(shape, device="meta")
        try:
            return _OVERHEAD * working_bytes(self._module, image, DTYPES[precision].itemsize)
        except LayerError:
            return 0


def layerwise(loaded: Loaded, precision: Precision, threads: int | None, max_bytes: int) -> Selection:
    """Load a layerwise engine and check its parity.

    Args:
        loaded: the generator.
        precision: precision of the engine; fp32 is used if it is not offered, and the next safer one if it fails the
            parity check.
        threads: as in :class:`EngineSpec`.
        max_bytes: memory limit for the outputs of the layers.

    Raises:
        ParityError: If no precision passes the parity check.
    """
    backend = get(_BACKEND)
    spec = EngineSpec(loaded.generator, loaded.facts, threads=threads, layer_bytes=max_bytes)
    if precision in offered(backend, spec):
        spec = replace(spec, precision=precision)
    probe = Probe.of(spec, _TILE)
    candidate: Candidate | None = Candidate(backend, spec)
    failures = []
    while candidate is not None:
        engine = backend.load(candidate.spec)
        parity = probe.parity(engine)
        what = f"{_BACKEND} {candidate.spec.precision} layerwise"
        if parity.passes():
            return Selection(engine, parity, f"{what}, {parity_message(parity)}")
        engine.close()
        failures.append(f"{what} failed the parity check: {parity_message(parity)}")
        candidate = candidate.safer
    raise ParityError("; ".join(failures))
