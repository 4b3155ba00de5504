"""torch.compile: Inductor generates C++ for a CPU and Triton for a GPU."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any, ClassVar

import torch
from gankit_export.precisions import Precision
from torch import Tensor

from gankit.backends.base import Backend, Engine, EngineSpec
from gankit.backends.cuda.engine import CudaEngine
from gankit.backends.modules import ModuleEngine, lacks_bf16, ready
from gankit.models.facts import Facts

_WARM_UP = (160, 192)
_COMPILERS = {"win32": "cl", "darwin": "clang++"}


class CompileBackend(Backend):
    """torch.compile. It needs a C++ compiler (CPU) or Triton (GPU), and takes minutes to load."""

    name: ClassVar[str] = "compile"
    precisions: ClassVar[dict[str, tuple[Precision, ...]]] = {"cpu": ("fp32", "bf16"), "cuda": ("fp32", "bf16", "fp16")}
    packages: ClassVar[tuple[str, ...]] = ("torch",)
    slow_start: ClassVar[bool] = True
    own_kernels: ClassVar[bool] = True

    def missing(self, spec: EngineSpec) -> str | None:
        """A compiler, Triton or a GPU may be missing."""
        if spec.device_type == "cuda":
            if not torch.cuda.is_available():
                return "this torch finds no CUDA GPU; use --device cpu"
            return None if find_spec("triton") else "needs Triton: pip install triton"
        # the compiler that Inductor calls; it looks for no other
        compiler = os.environ.get("CXX") or _COMPILERS.get(sys.platform, "g++")
        if shutil.which(compiler) is None:
            return f"needs the C++ compiler '{compiler}': install it (apt-get install g++), or set CXX to another one"
        return None

    def lacks(self, spec: EngineSpec) -> str | None:
        """It lacks bf16 on a processor without it, and layerwise runs."""
        return "does not run layerwise; use --backend eager" if spec.layer_bytes is not None else lacks_bf16(spec)

    def open(self, spec: EngineSpec) -> Engine:
        """Trace and compile the generator, for images of all sizes or for batches of latents of one size."""
        if spec.facts.task == "generate":
            return CompiledLatentEngine(self.name, spec, torch.compile(ready(spec), dynamic=False))
        module: Any = torch.compile(ready(spec), dynamic=True, fullgraph=True)
        on_gpu = spec.device_type == "cuda"
        engine: Engine = (CudaEngine if on_gpu else CompiledEngine)(self.name, spec, module)
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
