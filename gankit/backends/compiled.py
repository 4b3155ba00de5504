"""torch.compile: Inductor's C++ on a CPU, its Triton on a GPU."""

from __future__ import annotations

import os
import shutil
import sys
from typing import ClassVar

import torch
from torch import Tensor

from gankit.backends.base import Backend, Engine, Precision, Request
from gankit.backends.eager import ModuleEngine, ready, require

_WARM_UP = (160, 192)
_COMPILERS = {"win32": "cl", "darwin": "clang++"}


class CompileBackend(Backend):
    """torch.compile; needs a C++ compiler (CPU) or Triton (GPU), and minutes to load."""

    name: ClassVar[str] = "compile"
    precisions: ClassVar[dict[str, tuple[Precision, ...]]] = {"cpu": ("fp32", "bf16"), "cuda": ("fp32", "bf16", "fp16")}
    slow_start: ClassVar[bool] = True
    own_kernels: ClassVar[bool] = True

    def missing(self, device: str = "cpu") -> str | None:
        """No compiler, no Triton or no GPU."""
        if device.startswith("cuda"):
            if not torch.cuda.is_available():
                return "this torch sees no CUDA GPU; use --device cpu"
            from importlib.util import find_spec

            return None if find_spec("triton") else "needs Triton: pip install triton"
        # the one that Inductor calls: it looks for no other
        compiler = os.environ.get("CXX") or _COMPILERS.get(sys.platform, "g++")
        if shutil.which(compiler) is None:
            return f"needs the C++ compiler '{compiler}': install it (apt-get install g++), or name another in CXX"
        return None

    def load(self, request: Request) -> Engine:
        """Traces and compiles, for images of all sizes."""
        require(self, request)
        module = torch.compile(ready(request), dynamic=True, fullgraph=True)
        engine = CompiledEngine(self.name, request, module)  # type: ignore[arg-type]
        engine.warm_up()
        return engine


class CompiledEngine(ModuleEngine):
    """A compiled module. Weights are frozen into the code.

    ``torch.compile(options={"freezing": True})`` does nothing in torch 2.13: Dynamo reads the global setting while it
    traces, before the options apply. So the global one is set around every call; only the first compiles.

    Also with ``dynamic=True`` a size of 1, and sides that are equal in the first batch, become constants of the code.
    So it is compiled for an image that is not square; on a CPU every call then has one image, on a GPU code for
    one and for several is made. (fp32 images of up to 20480 values per layer, 320 pixels of 64 channels, cost another
    compilation: torch has other convolutions for them.) Float images are copied in inference mode: the code is for
    such tensors only.
    """

    def warm_up(self) -> None:
        """Compile all the code that images of any size will need."""
        height, width = (-(-side // self._facts.multiple) * self._facts.multiple for side in _WARM_UP)
        for count in (1,) if self.device == "cpu" else (1, 2):
            self.run(torch.zeros(count, self._facts.channels, height, width))

    def run(self, batch: Tensor) -> Tensor:
        """See :meth:`Engine.run`."""
        import torch._inductor.config as inductor

        if batch.dtype == torch.float32 and not batch.is_inference():
            with torch.inference_mode():
                batch = batch.clone()
        with inductor.patch(freezing=self.device == "cpu"):
            if self.device != "cpu" or batch.ndim != 4 or batch.shape[0] <= 1:
                return super().run(batch)
            results = [super(CompiledEngine, self).run(image) for image in batch.split(1)]
            return torch.cat(results).contiguous(memory_format=torch.channels_last)
