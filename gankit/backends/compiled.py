"""torch.compile: Inductor generates C++ for a CPU and Triton for a GPU. Importing this module imports no torch."""

from __future__ import annotations

import os
import shutil
import sys
from importlib.util import find_spec
from typing import ClassVar

from gankit_export.precisions import Precision

from gankit.backends.base import Backend, Engine, EngineSpec
from gankit.backends.cpu.instructions import lacks_bf16
from gankit.backends.cuda.driver import cuda_available

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
            if not cuda_available():
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
        from gankit.backends.compiled_engines import compiled

        return compiled(self.name, spec)
