"""Streams like eager's on the CPU, with gankit's own kernels of Winograd's algorithm for convolutions.

Importing this module imports no torch.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, ClassVar

from gankit_export.precisions import Precision

from gankit.backends.base import Backend, Engine, EngineSpec
from gankit.errors import BackendError
from gankit.paths import cache_folder

if TYPE_CHECKING:
    from torch import nn


class WinogradBackend(Backend):
    """torch and oneDNN; convolutions in fp32 by Winograd's algorithm (:mod:`gankit_kernels.winograd`)."""

    name: ClassVar[str] = "winograd"
    precisions: ClassVar[dict[str, tuple[Precision, ...]]] = {"cpu": ("fp32",)}
    packages: ClassVar[tuple[str, ...]] = ("llvmlite",)
    rank: ClassVar[int] = 5  # it exports nothing, and compiles for a second

    def missing(self, spec: EngineSpec) -> str | None:
        """The package may be missing."""
        return None if find_spec("llvmlite") else "llvmlite is not installed: pip install 'gankit[cpu]'"

    def lacks(self, spec: EngineSpec) -> str | None:
        """It lacks layerwise runs."""
        return "does not run layerwise; use --backend eager" if spec.layer_bytes is not None else None

    def open(self, spec: EngineSpec) -> Engine:
        """Open a streaming engine if the network allows it, or else one for tiles or latents.

        Raises:
            BackendError: If the network has no convolutions that gain.
        """
        from gankit_kernels.on_cpu.objects import keep_in
        from torch import fx

        from gankit.backends.cpu.engines import StreamingEngine
        from gankit.backends.cpu.heap import keep_freed_memory
        from gankit.backends.cpu.instance_norm import keep_channels_last
        from gankit.backends.cpu.streaming import NotStreamableError, Stream
        from gankit.backends.cpu.winograd import convolutions, with_winograd
        from gankit.backends.modules import ModuleEngine, ready, typed_module

        keep_in(cache_folder() / "winograd")
        module = typed_module(spec)
        if not convolutions(module):
            raise BackendError(f"'{spec.facts.name}' has no convolutions that gain; use --backend eager")
        if spec.facts.task == "generate":
            module = _folded(module)
        elif isinstance(module, fx.GraphModule):
            try:
                return StreamingEngine(self.name, spec, Stream(module, winograd=True))
            except NotStreamableError:
                pass  # some layers need the whole image, so run tiles
        keep_freed_memory()
        keep_channels_last(module)
        return ModuleEngine(self.name, spec, with_winograd(ready(spec, module)))


def _folded(generator: nn.Module) -> nn.Module:
    """A generator with BatchNorm folded into the convolutions before it, if it can be traced."""
    from gankit_export.rewrites import fold_batch_norm

    try:
        return fold_batch_norm(generator)
    except ValueError:
        return generator
