"""torch.compile: Inductor's C++ on a CPU, its Triton on a GPU."""

from __future__ import annotations

import shutil
from typing import ClassVar

import torch
from gankit_export.rewrites import for_inference
from torch import Tensor

from gankit.backends.base import Backend, Engine, Precision, Request
from gankit.backends.eager import DTYPES, ModuleEngine, channels_last, require


class CompileBackend(Backend):
    """torch.compile; needs a C++ compiler (CPU) or Triton (GPU), and minutes on the first picture."""

    name: ClassVar[str] = "compile"
    precisions: ClassVar[dict[str, tuple[Precision, ...]]] = {"cpu": ("fp32", "bf16"), "cuda": ("fp32", "bf16", "fp16")}
    slow_start: ClassVar[bool] = True

    def missing(self, device: str = "cpu") -> str | None:
        """No compiler, no Triton or no GPU."""
        if device.startswith("cuda"):
            if not torch.cuda.is_available():
                return "this torch sees no CUDA GPU; use --device cpu"
            from importlib.util import find_spec

            return None if find_spec("triton") else "needs Triton: pip install 'gankit[gpu]'"
        if not any(shutil.which(name) for name in ("c++", "g++", "clang++", "cl")):
            return "needs a C++ compiler: install g++ or clang (apt-get install g++)"
        return None

    def load(self, request: Request) -> Engine:
        """Traces now, compiles on the first batch; sizes are dynamic, so that one compilation serves all."""
        require(self, request)
        module = for_inference(request.generator).to(DTYPES[request.precision])
        ready = channels_last(module, request.device)
        return CompiledEngine(self.name, request, torch.compile(ready, dynamic=True, fullgraph=True))  # type: ignore[arg-type]


class CompiledEngine(ModuleEngine):
    """A compiled module. Weights are frozen into the code.

    ``torch.compile(options={"freezing": True})`` does nothing in torch 2.13: Dynamo reads the global setting while it
    traces, before the options apply. So the global one is set around every call; only the first compiles.
    """

    def run(self, batch: Tensor) -> Tensor:
        """See :meth:`Engine.run`."""
        import torch._inductor.config as inductor

        with inductor.patch(freezing=self.device == "cpu"):
            return super().run(batch)
