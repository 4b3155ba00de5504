"""The engines of torch.compile."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from gankit.backends.base import Engine, EngineSpec
from gankit.backends.cuda.engine import CudaEngine
from gankit.backends.modules import ModuleEngine, ready
from gankit.models.facts import Facts

_WARM_UP = (160, 192)


def compiled(backend: str, spec: EngineSpec) -> Engine:
    """Trace and compile the generator, for images of all sizes or for batches of latents of one size.

    Args:
        backend: name of the backend.
        spec: the spec of the engine.
    """
    if spec.facts.task == "generate":
        return CompiledLatentEngine(backend, spec, torch.compile(ready(spec, compiled=True), dynamic=False))
    module: Any = torch.compile(ready(spec, compiled=True), dynamic=True, fullgraph=True)
    on_gpu = spec.device_type == "cuda"
    engine: Engine = (CudaEngine if on_gpu else CompiledEngine)(backend, spec, module)
    _warm_up(engine, spec.facts, counts=(1, 2) if on_gpu else (1,))
    return engine


def _warm_up(engine: Engine, facts: Facts, counts: Sequence[int]) -> None:
    """Compile the code for images of any size and these numbers of images.

    Even with ``dynamic=True``, a size of 1 and sides that are equal in the first batch become constants of the code.
    The module is therefore compiled for images that are not square, and for one image and several where a call may have
    several.
    """
    step = facts.multiple
    height, width = (-(-max(side, facts.minimum) // step) * step for side in _WARM_UP)
    width = max(width, height + step)  # a large multiple would round both sides up to a square
    for count in counts:
        engine.run(torch.zeros(count, facts.channels, height, width))


class CompiledEngine(ModuleEngine):
    """A compiled module on a CPU, with the weights frozen into the code.

    ``torch.compile(options={"freezing": True})`` does nothing in torch 2.13, because Dynamo reads the global setting
    while it traces, before the options apply. The global setting is therefore set around every call; only the first
    call compiles.

    The images of a batch run one after the other, because the code is for one image. (fp32 images of up to 20480 values
    per layer, or 320 pixels of 64 channels, need another compilation, because torch uses other convolutions for them.)
    Float images are copied in inference mode, because the code accepts only such tensors.
    """

    def run(self, *tensors: Tensor) -> Tensor:
        """See :meth:`Engine.run`."""
        import torch._inductor.config as inductor

        (batch,) = tensors
        if batch.dtype == torch.float32 and not batch.is_inference():
            with torch.inference_mode():
                batch = batch.clone()
        with inductor.patch(freezing=True):
            if batch.ndim != 4 or batch.shape[0] <= 1:
                return super().run(batch)
            results = [super(CompiledEngine, self).run(image) for image in batch.split(1)]
            return torch.cat(results).contiguous(memory_format=torch.channels_last)


class CompiledLatentEngine(ModuleEngine):
    """A compiled generator of samples. With a static batch, smaller batches are padded, so that it compiles once."""

    def __init__(self, backend: str, spec: EngineSpec, module: Any) -> None:
        super().__init__(backend, spec, module)
        self._fill = spec.shapes.batch or 0

    def run(self, *tensors: Tensor) -> Tensor:
        """See :meth:`Engine.run`."""
        count = tensors[0].shape[0]
        if missing := max(0, self._fill - count):
            tensors = tuple(torch.cat([item, item.new_zeros(missing, *item.shape[1:])]) for item in tensors)
        return super().run(*tensors)[:count]
