"""AOTInductor: torch compiles the generator to machine code in a file, which later runs load without a compiler.

Importing this module imports no torch.
"""

from __future__ import annotations

from typing import ClassVar

from gankit_export.precisions import Precision

from gankit.backends.base import Backend, Engine, EngineSpec
from gankit.backends.compiled import CompileBackend
from gankit.backends.cpu.instructions import lacks_bf16


class AotiBackend(Backend):
    """AOTInductor. It needs what ``compile`` needs, and compiles once for all later runs."""

    name: ClassVar[str] = "aoti"
    precisions: ClassVar[dict[str, tuple[Precision, ...]]] = {"cpu": ("fp32", "bf16"), "cuda": ("fp32", "bf16", "fp16")}
    packages: ClassVar[tuple[str, ...]] = ("torch",)
    rank: ClassVar[int] = 20
    slow_start: ClassVar[bool] = True
    automatic: ClassVar[bool] = False  # no faster than other backends where it was measured

    def missing(self, spec: EngineSpec) -> str | None:
        """A compiler, Triton or a GPU may be missing."""
        return CompileBackend().missing(spec)

    def lacks(self, spec: EngineSpec) -> str | None:
        """It lacks bf16 on a processor without it, and layerwise runs."""
        return "does not run layerwise; use --backend eager" if spec.layer_bytes is not None else lacks_bf16(spec)

    def open(self, spec: EngineSpec) -> Engine:
        """Compile the generator once, for any batch of images of any size, or of latents."""
        from gankit.backends.aoti_engine import open_package

        return open_package(spec)
