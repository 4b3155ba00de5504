"""ONNX Runtime with its CPU provider, or with its CUDA provider.

The CPU provider needs no torch, and importing this module imports none.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from gankit_export.precisions import Precision

from gankit.backends.artefacts import open_onnx, sha256_in_name
from gankit.backends.base import ArrayEngine, Backend, Engine, EngineSpec, memory_errors
from gankit.backends.choice.quantised import quantised_file
from gankit.backends.cpu.threads import default_threads
from gankit.backends.pixels import enter_arrays, leave_arrays


class OnnxRuntimeBackend(Backend):
    """ONNX Runtime.

    Its CPU kernels support only fp32; it would run an fp16 file by casting back and forth. Neither provider has bf16
    convolutions. The package ``onnxruntime-gpu`` has both providers.
    """

    name: ClassVar[str] = "onnxruntime"
    precisions: ClassVar[dict[str, tuple[Precision, ...]]] = {"cpu": ("fp32",), "cuda": ("fp32", "fp16")}
    packages: ClassVar[tuple[str, ...]] = ("onnxruntime", "onnxruntime-gpu")
    rank: ClassVar[int] = 2
    start_rank: ClassVar[int | None] = 0  # it starts in 0.1 s
    runs_int8: ClassVar[bool] = True

    def missing(self, spec: EngineSpec) -> str | None:
        """The package, the GPU or the CUDA provider may be missing."""
        if spec.device_type == "cuda":
            from gankit.backends.onnx_runtime_cuda import missing

            return missing()
        return None if find_spec("onnxruntime") else "not installed: pip install onnxruntime"

    def lacks(self, spec: EngineSpec) -> str | None:
        """It lacks layerwise runs."""
        return "does not run layerwise; use --backend eager" if spec.layer_bytes is not None else None

    def open(self, spec: EngineSpec) -> Engine:
        """Export the generator once and open the file."""
        if spec.device_type == "cuda":
            from gankit_export.gpu import Gpu

            from gankit.backends.onnx_runtime_cuda import OnnxRuntimeCudaEngine

            gpu = Gpu(spec.device)
            return open_onnx(spec, lambda path: OnnxRuntimeCudaEngine(spec, path, gpu), spec.precision)
        if spec.quantised:
            return OnnxRuntimeEngine(spec, quantised_file(spec))
        return open_onnx(spec, lambda path: OnnxRuntimeEngine(spec, path))


class OnnxRuntimeEngine(ArrayEngine):
    """A session of one ONNX file.

    Raises:
        RuntimeError: If the session does not use the CPU provider.
    """

    def __init__(self, spec: EngineSpec, path: Path) -> None:
        super().__init__(OnnxRuntimeBackend.name, spec)
        self._facts, self.artefact = spec.facts, sha256_in_name(path)
        self._path, self.at_once = path, spec.threads or default_threads()
        self._session = self._open(self.at_once)
        self._alone: Any = None  # for several images at once, each on one thread
        self._inputs = [item.name for item in self._session.get_inputs()]

    def run_arrays(self, *arrays: np.ndarray) -> np.ndarray:
        """See :meth:`Engine.run_arrays`. As many images as there are threads run at once, each on one of them."""
        values = enter_arrays(arrays, self._facts)
        count = len(values[0])
        # Its exceptions derive directly from Exception.
        with memory_errors("Failed to allocate memory", "bad_alloc", "bad allocation"):
            if self._facts.task == "generate" or self.at_once == 1 or count % self.at_once:
                result = self._run(self._session, values)
            else:
                if self._alone is None:
                    self._alone = self._open(1)
                with ThreadPoolExecutor(self.at_once) as pool:
                    each = [tuple(value[index : index + 1] for value in values) for index in range(count)]
                    result = np.concatenate(list(pool.map(partial(self._run, self._alone), each)))
        return leave_arrays(result, arrays, self._facts)

    def _run(self, session: Any, values: tuple[np.ndarray, ...]) -> np.ndarray:
        (result,) = session.run(None, dict(zip(self._inputs, values, strict=True)))
        return np.asarray(result)

    def _open(self, threads: int) -> Any:
        """Open a session.

        Raises:
            RuntimeError: If it does not use the CPU provider.
        """
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.enable_mem_pattern = False  # it would keep a plan of the memory for each size of image
        options.log_severity_level = 4  # errors are raised, so their lines on stderr would repeat them
        session = onnxruntime.InferenceSession(str(self._path), options, providers=["CPUExecutionProvider"])
        if session.get_providers()[0] != "CPUExecutionProvider":
            raise RuntimeError(f"ONNX Runtime chose {session.get_providers()[0]}, not the CPU provider")
        return session
