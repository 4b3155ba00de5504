"""torch without compilation. On a CPU it streams whole images in strips through oneDNN's fused convolutions.

Importing this module imports no torch, because ``gankit doctor`` imports all backends.
"""

from __future__ import annotations

from typing import ClassVar

from gankit_export.precisions import Precision

from gankit.backends.base import Backend, Engine, EngineSpec
from gankit.backends.cpu.instructions import lacks_bf16
from gankit.backends.cuda.driver import cuda_available
from gankit.errors import BackendError


class EagerBackend(Backend):
    """torch itself. It needs nothing else."""

    name: ClassVar[str] = "eager"
    precisions: ClassVar[dict[str, tuple[Precision, ...]]] = {"cpu": ("fp32", "bf16"), "cuda": ("fp32", "bf16", "fp16")}
    packages: ClassVar[tuple[str, ...]] = ("torch",)
    rank: ClassVar[int] = 0  # it exports nothing, so that the first measurement comes quickly
    own_kernels: ClassVar[bool] = True

    def missing(self, spec: EngineSpec) -> str | None:
        """Only a CUDA GPU can be missing."""
        if spec.device_type == "cuda" and not cuda_available():
            return "this torch finds no CUDA GPU; use --device cpu"
        return None

    def lacks(self, spec: EngineSpec) -> str | None:
        """It lacks bf16 on a processor without it, and layerwise runs on a GPU."""
        if spec.layer_bytes is not None and spec.device_type != "cpu":
            return f"runs layerwise on the CPU only, not on {spec.device}; use --device cpu"
        return lacks_bf16(spec)

    def open(self, spec: EngineSpec) -> Engine:
        """Open a streaming or layerwise engine if the network allows it (CPU), or else one for tiles or latents."""
        from gankit_export.calls import LayerError
        from torch import fx

        from gankit.backends.cpu.engines import LayerwiseEngine, StreamingEngine
        from gankit.backends.cpu.instance_norm import keep_channels_last
        from gankit.backends.cpu.streaming import NotStreamableError, Stream
        from gankit.backends.cuda.engine import CudaEngine
        from gankit.backends.modules import ModuleEngine, ready, typed_module

        module = typed_module(spec)
        if spec.device_type == "cuda":
            return CudaEngine(self.name, spec, ready(spec, module))
        if spec.facts.task == "generate":
            return ModuleEngine(self.name, spec, ready(spec, module))
        if spec.layer_bytes is not None:
            if not isinstance(module, fx.GraphModule):
                raise BackendError(f"'{spec.facts.name}' cannot be traced, which layerwise runs need")
            try:
                return LayerwiseEngine(self.name, spec, module)
            except LayerError as error:
                raise BackendError(f"'{spec.facts.name}' does not run layerwise: {error}") from error
        if isinstance(module, fx.GraphModule):
            try:
                return StreamingEngine(self.name, spec, Stream(module))
            except NotStreamableError:
                pass  # some layers need the whole image, so run tiles
        keep_channels_last(module)
        return ModuleEngine(self.name, spec, ready(spec, module))
