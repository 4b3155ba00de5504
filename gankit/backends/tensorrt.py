"""TensorRT, which this version lists but cannot run."""

from __future__ import annotations

from typing import ClassVar

from gankit_export.precisions import Precision

from gankit.backends.base import Backend, Engine, EngineSpec
from gankit.errors import BackendError

_WHY = "gankit does not run TensorRT engines yet, even if TensorRT is installed; use --backend auto"


class TensorRTBackend(Backend):
    """Reports that this version cannot run TensorRT engines."""

    name: ClassVar[str] = "tensorrt"
    precisions: ClassVar[dict[str, tuple[Precision, ...]]] = {"cuda": ("fp32", "bf16", "fp16")}
    packages: ClassVar[tuple[str, ...]] = ("tensorrt",)

    def missing(self, spec: EngineSpec) -> str | None:
        """Support for TensorRT is always missing."""
        return _WHY

    def open(self, spec: EngineSpec) -> Engine:
        """Never called, because no spec is supported."""
        raise BackendError(f"backend '{self.name}': {_WHY}")
