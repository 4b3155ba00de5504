"""OpenVINO with its CPU plugin. Conversion of pixels (type, layout, scale, rounding) is part of its graph.

It needs no torch once the generator is exported, and importing this module imports none.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from gankit_export.openvino_core import openvino_core
from gankit_export.precisions import Precision

from gankit.backends.artefacts import is_intact, open_onnx, sha256_in_name
from gankit.backends.base import ArrayEngine, Backend, Engine, EngineMemoryError, EngineSpec, memory_errors
from gankit.backends.cpu.instructions import lacks_bf16
from gankit.backends.cpu.threads import default_threads
from gankit.backends.pixels import FULL_SCALE, check, leave_arrays
from gankit.errors import BackendError
from gankit.models.deferred import Deferred
from gankit.models.facts import Facts

_CACHED_LAYERS = 128  # compiled for one size of image; 5000 by default, which is a leak if all images differ
_HINTS: dict[Precision, str] = {"fp32": "f32", "bf16": "bf16"}


class OpenVinoBackend(Backend):
    """OpenVINO on the CPU. The precision is always set, because by default it uses bf16 if the CPU supports it."""

    name: ClassVar[str] = "openvino"
    precisions: ClassVar[dict[str, tuple[Precision, ...]]] = {"cpu": ("fp32", "bf16")}
    packages: ClassVar[tuple[str, ...]] = ("openvino",)
    rank: ClassVar[int] = 1

    def missing(self, spec: EngineSpec) -> str | None:
        """The package may be missing."""
        return None if find_spec("openvino") else "not installed: pip install openvino"

    def lacks(self, spec: EngineSpec) -> str | None:
        """It lacks bf16 on a processor without it, and layerwise runs."""
        return "does not run layerwise; use --backend eager" if spec.layer_bytes is not None else lacks_bf16(spec)

    def open(self, spec: EngineSpec) -> Engine:
        """Export the generator once. A graph for each dtype of pixels is compiled when it is first needed."""
        kind = OpenVinoLatentEngine if spec.facts.task == "generate" else OpenVinoEngine
        if not isinstance(spec.module, Deferred):  # an IR is never deferred
            from gankit.checkpoints.ir_models import IrModule

            if isinstance(spec.module, IrModule):
                return kind(spec, spec.module.model, spec.module.sha256)
        return open_onnx(spec, lambda path: kind(spec, partial(_cached_model, path), sha256_in_name(path)))


def _settings(spec: EngineSpec) -> dict[str, Any]:
    return {
        "INFERENCE_PRECISION_HINT": _HINTS[spec.precision],
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": spec.threads or default_threads(),
        "CPU_RUNTIME_CACHE_CAPACITY": _CACHED_LAYERS,
    }


def _cached_model(path: Path) -> Any:
    """Read an exported file from the cache.

    Raises:
        BackendError: If it is not the one that was exported. (The engine may have been opened hours ago.)
    """
    if not is_intact(path):
        raise BackendError(f"{path}: this cached file was changed or deleted during the run; start it again")
    return openvino_core().read_model(path)


class OpenVinoEngine(ArrayEngine):
    """Runs images through one compiled graph for each dtype of pixels.

    Args:
        spec: the spec of the engine.
        read: reads the graph.
        sha256: of the file with the graph.
    """

    def __init__(self, spec: EngineSpec, read: Callable[[], Any], sha256: str) -> None:
        super().__init__(OpenVinoBackend.name, spec)
        self._facts, self._read, self._settings = spec.facts, read, _settings(spec)
        self.artefact = sha256
        self._core = openvino_core()
        read()  # raises if the file is damaged, so that it is exported again
        self._requests: dict[np.dtype[Any], Any] = {}

    def run_arrays(self, *arrays: np.ndarray) -> np.ndarray:
        """See :meth:`Engine.run_arrays`."""
        check(arrays, self._facts)
        (batch,) = arrays
        pixels = np.ascontiguousarray(batch.transpose(0, 2, 3, 1))
        try:
            with memory_errors("Failed to allocate", "bad_alloc", "bad allocation"):
                if batch.dtype not in self._requests:
                    self._requests[batch.dtype] = self._compile(batch.dtype)
                result = self._requests[batch.dtype].infer([pixels], share_inputs=True, share_outputs=False)[0]
        except EngineMemoryError:
            # A request that stopped half-way keeps the shapes of that batch and fails with every later one.
            self._requests.pop(batch.dtype, None)
            raise
        return np.asarray(result).transpose(0, 3, 1, 2)

    def close(self) -> None:
        """Release the compiled graphs."""
        self._requests.clear()

    def _compile(self, dtype: np.dtype[Any]) -> Any:
        model = with_pixel_edges(self._read(), self._facts, dtype)
        return self._core.compile_model(model, "CPU", self._settings).create_infer_request()


class OpenVinoLatentEngine(ArrayEngine):
    """Runs latents through a compiled graph. The arguments are those of :class:`OpenVinoEngine`."""

    def __init__(self, spec: EngineSpec, read: Callable[[], Any], sha256: str) -> None:
        super().__init__(OpenVinoBackend.name, spec)
        self._facts, self.artefact = spec.facts, sha256
        self._request = openvino_core().compile_model(read(), "CPU", _settings(spec)).create_infer_request()

    def run_arrays(self, *arrays: np.ndarray) -> np.ndarray:
        """See :meth:`Engine.run_arrays`."""
        check(arrays, self._facts)
        with memory_errors("Failed to allocate", "bad_alloc", "bad allocation"):
            result = self._request.infer(list(arrays), share_inputs=True, share_outputs=False)[0]
        return leave_arrays(np.asarray(result, np.float32), arrays, self._facts)


def with_pixel_edges(model: Any, facts: Facts, dtype: np.dtype[Any]) -> Any:
    """Wrap an NCHW fp32 graph in conversions from and to NHWC pixels.

    Args:
        model: OpenVINO model with one input and one output.
        facts: facts of the generator, which contain its value range.
        dtype: dtype of the pixels: uint8, uint16, or float32 in [0, 1] (the result is not clamped).
    """
    import openvino
    from openvino import opset13 as ops

    low, high = facts.value_range
    full = FULL_SCALE.get(dtype.name, 1.0)
    old_input, old_output = model.input(0), model.output(0)
    shape = old_input.get_partial_shape()
    pixels = ops.parameter(openvino.PartialShape([shape[0], shape[2], shape[3], shape[1]]), dtype.type, name="pixels")
    values = ops.convert(pixels, "f32")
    values = ops.multiply(values, np.float32((high - low) / full))
    values = ops.add(values, np.float32(low))
    values = ops.transpose(values, np.array([0, 3, 1, 2]))
    for target in old_input.get_target_inputs():
        target.replace_source_output(values.output(0))
    result = old_output.get_node().input_value(0)
    scaled = ops.multiply(ops.subtract(result, np.float32(low)), np.float32(full / (high - low)))
    if dtype != np.float32:
        scaled = ops.round(ops.clamp(scaled, 0.0, full), "half_to_even")
        scaled = ops.convert(scaled, {"uint8": "u8", "uint16": "u16"}[dtype.name])
    return openvino.Model([ops.transpose(scaled, np.array([0, 2, 3, 1]))], [pixels], "pixels")
