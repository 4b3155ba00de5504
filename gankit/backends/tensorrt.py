"""TensorRT, which this version names but does not run."""

from __future__ import annotations

from typing import ClassVar

from gankit.backends.base import Backend, Engine, EngineSpec, Precision
from gankit.errors import BackendError

_WHY = (
    "this version of gankit does not run TensorRT engines yet, and installing TensorRT does not change that; "
    "use --backend auto"
)


class TensorRTBackend(Backend):
    """Says that TensorRT engines do not run yet, wherever a backend is asked."""

    name: ClassVar[str] = "tensorrt"
    precisions: ClassVar[dict[str, tuple[Precision, ...]]] = {"cuda": ("fp32", "bf16", "fp16")}
    packages: ClassVar[tuple[str, ...]] = ("tensorrt",)

    def missing(self, spec: EngineSpec) -> str | None:
        """Always the same reason."""
        return _WHY

    def open(self, spec: EngineSpec) -> Engine:
        """Never called for a spec that is supported: there is none."""
        raise BackendError(f"backend '{self.name}': {_WHY}")
