"""ONNX Runtime with its TensorRT provider, which builds engines for the shapes of a profile and caches them.

The provider knows its cached engines by the name of the file, the names of the layers and the versions, but not by the
weights. The prefix of the cache is therefore the sha256 of the file, so that retrained weights get new engines.
"""

from __future__ import annotations

from typing import ClassVar

from gankit_export.precisions import Precision

from gankit.backends.base import Backend, Engine, EngineSpec
from gankit.backends.cuda.driver import cuda_available

NEEDED_MAJOR = 10  # of TensorRT, to which the provider in the wheels of onnxruntime-gpu is linked


class OnnxRuntimeTensorRTBackend(Backend):
    """ONNX Runtime's TensorRT provider, for those who deploy on it; ``--backend tensorrt`` needs less."""

    name: ClassVar[str] = "onnxruntime-tensorrt"
    precisions: ClassVar[dict[str, tuple[Precision, ...]]] = {"cuda": ("fp32", "fp16")}
    packages: ClassVar[tuple[str, ...]] = ("onnxruntime-gpu",)
    slow_start: ClassVar[bool] = True
    automatic: ClassVar[bool] = False  # the tensorrt backend builds the same engines from the same file

    def missing(self, spec: EngineSpec) -> str | None:
        """The GPU, TensorRT 10 or the provider may be missing."""
        if not cuda_available():
            return "this torch finds no CUDA GPU; use --device cpu with another backend"
        from gankit_export.tensorrt.library import TensorRTError, library, numbers

        from gankit.backends.onnx_runtime_cuda import missing, why_not

        if why := missing():
            return why
        try:
            version = library().__version__  # this import loads libnvinfer, which the provider then finds
        except TensorRTError as error:
            return str(error)
        if numbers(version)[0] != NEEDED_MAJOR:
            return f"it needs TensorRT {NEEDED_MAJOR}, not {version}: pip install tensorrt-cu13==10.16.1.11"
        return why_not("tensorrt")

    def lacks(self, spec: EngineSpec) -> str | None:
        """It lacks layerwise runs."""
        return "does not run layerwise; use --backend eager" if spec.layer_bytes is not None else None

    def open(self, spec: EngineSpec) -> Engine:
        """Export the generator once. The provider builds an engine when images of its size first come."""
        from gankit_export.gpu import Gpu

        from gankit.backends.artefacts import open_onnx
        from gankit.backends.onnx_runtime_tensorrt_engine import OnnxRuntimeTensorRTEngine

        gpu = Gpu(spec.device)
        return open_onnx(spec, lambda path: OnnxRuntimeTensorRTEngine(spec, path, gpu), spec.precision)
