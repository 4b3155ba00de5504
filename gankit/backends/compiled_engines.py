"""The engines of torch.compile."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from gankit.backends.base import Engine, EngineSpec, Pending
from gankit.backends.cuda.engine import CudaEngine
from gankit.backends.cuda.streams import Cuda
from gankit.backends.inductor_cache import use_inductor_cache
from gankit.backends.modules import ModuleEngine, ready
from gankit.models.facts import Facts

_WARM_UP = (160, 192)


def compiled(backend: str, spec: EngineSpec) -> Engine:
    """Trace and compile the generator, for images of all sizes, for those of one shape, or for batches of latents.

    On a GPU, a spec of fixed shapes gets code for them alone, whose calls are replayed as CUDA graphs. This is what
    ``mode="reduce-overhead"`` does, whose own graphs belong to one thread and overwrite their results.

    Args:
        backend: name of the backend.
        spec: the spec of the engine.
    """
    use_inductor_cache()
    facts, shapes, on_gpu = spec.facts, spec.shapes, spec.device_type == "cuda"
    module: Any = ready(spec, compiled=True)
    if facts.task == "generate":
        code: Any = torch.compile(module, dynamic=False)
        if on_gpu and shapes.batch is not None:
            return FixedEngine(backend, spec, code)
        return CompiledLatentEngine(backend, spec, code)
    if on_gpu and shapes.batch is not None and shapes.tile is not None:
        fixed = shapes.batch, facts.channels, *shapes.tile
        code = torch.compile(module, dynamic=False, fullgraph=True)
        engine: Engine = FixedEngine(backend, spec, lambda x: code(x) if x.shape == fixed else module(x))
        engine.run(torch.zeros(fixed, dtype=torch.uint8))
        return engine
    code = torch.compile(module, dynamic=True, fullgraph=True)
    engine = (CudaEngine if on_gpu else CompiledEngine)(backend, spec, code)
    _warm_up(engine, facts, counts=(1, 2) if on_gpu else (1,))
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


class FixedEngine(CudaEngine):
    """A module that is compiled for one shape, on a GPU.

    Fewer images, or samples, than those of a call are filled up with zeros. Images of another size run without the
    compiled code, because compiling for each would take minutes.
    """

    def __init__(
        self, backend: str, spec: EngineSpec, module: Callable[..., Tensor], *, cuda: Cuda | None = None
    ) -> None:
        super().__init__(backend, spec, module, cuda=cuda)
        self._fill, self._tile = spec.shapes.batch or 0, spec.shapes.tile

    def run(self, *tensors: Tensor) -> Tensor:
        """See :meth:`Engine.run`."""
        return super().run(*self._filled(tensors))[: len(tensors[0])]

    def submit(self, *tensors: Tensor) -> Pending:
        """See :meth:`Engine.submit`."""
        return _First(super().submit(*self._filled(tensors)), len(tensors[0]))

    def _filled(self, tensors: Sequence[Tensor]) -> Sequence[Tensor]:
        missing = self._fill - len(tensors[0])
        if missing <= 0 or not (self._latents or tuple(tensors[0].shape[2:]) == self._tile):
            return tensors
        return [filled(item, missing) for item in tensors]


class _First(Pending):
    """The first items of the result of a call."""

    def __init__(self, call: Pending, count: int) -> None:
        self._call, self._count = call, count

    def result(self) -> Tensor:
        """See :meth:`Pending.result`."""
        return self._call.result()[: self._count]


def filled(batch: Tensor, missing: int) -> Tensor:
    """Return a batch with so many items of zeros behind it, in the layout of the batch."""
    if batch.ndim != 4:
        return torch.cat([batch, batch.new_zeros(missing, *batch.shape[1:])])
    last = batch.permute(0, 2, 3, 1)
    return torch.cat([last, last.new_zeros(missing, *last.shape[1:])]).permute(0, 3, 1, 2)


class CompiledLatentEngine(ModuleEngine):
    """A compiled generator of samples. With a static batch, smaller batches are padded, so that it compiles once."""

    def __init__(self, backend: str, spec: EngineSpec, module: Any) -> None:
        super().__init__(backend, spec, module)
        self._fill = spec.shapes.batch or 0

    def run(self, *tensors: Tensor) -> Tensor:
        """See :meth:`Engine.run`."""
        count = tensors[0].shape[0]
        if missing := max(0, self._fill - count):
            tensors = tuple(filled(item, missing) for item in tensors)
        return super().run(*tensors)[:count]
