"""TensorRT. Engines are built for this GPU from the ONNX file, proven, and cached."""

from __future__ import annotations

from typing import ClassVar

from gankit_export.precisions import Precision

from gankit.backends.base import Backend, Engine, EngineSpec
from gankit.backends.cuda.driver import cuda_available
from gankit.errors import BackendError


class TensorRTBackend(Backend):
    """TensorRT 10.12 to 11. The precision is in the types of the exported graph: networks are strongly typed."""

    name: ClassVar[str] = "tensorrt"
    precisions: ClassVar[dict[str, tuple[Precision, ...]]] = {"cuda": ("fp32", "bf16", "fp16")}
    packages: ClassVar[tuple[str, ...]] = ("tensorrt", "tensorrt-cu13", "tensorrt-cu12")
    rank: ClassVar[int] = 3
    slow_start: ClassVar[bool] = True

    def missing(self, spec: EngineSpec) -> str | None:
        """The GPU or the library may be missing."""
        from gankit_export.tensorrt.library import missing

        if not cuda_available():
            return "this torch finds no CUDA GPU; use --device cpu with another backend"
        return missing()

    def lacks(self, spec: EngineSpec) -> str | None:
        """It lacks layerwise runs."""
        return "does not run layerwise; use --backend eager" if spec.layer_bytes is not None else None

    def open(self, spec: EngineSpec) -> Engine:
        """Export the generator once. An engine is built when images of its size first come."""
        from gankit_export.gpu import Gpu
        from gankit_export.tensorrt.library import TensorRTError, library
        from gankit_export.tensorrt.machine import this_machine

        from gankit.backends.tensorrt_engine import TensorRTEngine

        try:
            gpu = Gpu(spec.device)
            return TensorRTEngine(spec, gpu, this_machine(library(), gpu.device))
        except TensorRTError as error:
            raise BackendError(f"'{spec.facts.name}': {error}") from error
