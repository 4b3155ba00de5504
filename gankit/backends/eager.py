"""torch, layer by layer. On a CPU it streams whole images in strips through oneDNN's fused convolutions."""

from __future__ import annotations

from typing import ClassVar

import torch
from gankit_export.calls import LayerError
from torch import fx

from gankit.backends.base import Backend, Engine, EngineSpec, Precision
from gankit.backends.cpu.engines import LayerwiseEngine, StreamingEngine
from gankit.backends.cpu.instance_norm import keep_channels_last
from gankit.backends.cpu.streaming import NotStreamableError, Stream
from gankit.backends.modules import ModuleEngine, lacks_bf16, ready, typed_module
from gankit.errors import BackendError


class EagerBackend(Backend):
    """torch itself; needs nothing else."""

    name: ClassVar[str] = "eager"
    precisions: ClassVar[dict[str, tuple[Precision, ...]]] = {"cpu": ("fp32", "bf16"), "cuda": ("fp32", "bf16", "fp16")}
    packages: ClassVar[tuple[str, ...]] = ("torch",)
    rank: ClassVar[int] = 0  # it exports nothing, so that something is measured at once
    own_kernels: ClassVar[bool] = True

    def missing(self, spec: EngineSpec) -> str | None:
        """Only a CUDA device can be missing."""
        if spec.device_type == "cuda" and not torch.cuda.is_available():
            return "this torch sees no CUDA GPU; use --device cpu"
        return None

    def lacks(self, spec: EngineSpec) -> str | None:
        """bf16 on a processor without it; layerwise runs on anything but the CPU."""
        if spec.layer_bytes is not None and spec.device_type != "cpu":
            return f"runs layerwise on the CPU, not on {spec.device}; use --device cpu"
        return lacks_bf16(spec)

    def open(self, spec: EngineSpec) -> Engine:
        """A streaming or layerwise engine where the network allows it (CPU), else one that takes tiles or latents."""
        module = typed_module(spec)
        if spec.facts.task == "generate":
            return ModuleEngine(self.name, spec, ready(spec, module))
        if spec.layer_bytes is not None:
            if not isinstance(module, fx.GraphModule):
                raise BackendError(f"'{spec.facts.name}' has no graph, and layerwise runs need one")
            try:
                return LayerwiseEngine(self.name, spec, module)
            except LayerError as error:
                raise BackendError(f"'{spec.facts.name}' does not run layerwise: {error}") from error
        if spec.device_type == "cpu" and isinstance(module, fx.GraphModule):
            try:
                return StreamingEngine(self.name, spec, Stream(module))
            except NotStreamableError:
                pass  # whole-image layers: tiles, in the ordinary way
        if spec.device_type == "cpu":
            keep_channels_last(module)
        return ModuleEngine(self.name, spec, ready(spec, module))
