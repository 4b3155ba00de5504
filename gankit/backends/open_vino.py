"""OpenVINO with its CPU plugin. Conversion of pixels (type, layout, scale, rounding) is part of its graph."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from gankit_export.openvino_core import openvino_core
from gankit_export.precisions import Precision
from torch import Tensor

from gankit.backends.artefacts import is_intact, open_onnx, sha256_in_name
from gankit.backends.base import Backend, Engine, EngineMemoryError, EngineSpec, memory_errors
from gankit.backends.cpu.threads import default_threads
from gankit.backends.modules import lacks_bf16
from gankit.backends.pixels import FULL_SCALE, check, leave
from gankit.errors import BackendError
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
        if hasattr(spec.generator, "openvino_model"):  # an OpenVINO IR is the model itself
            own = GraphLatentEngine if spec.facts.task == "generate" else GraphEngine
            return own(spec, spec.generator)
        kind = OpenVinoLatentEngine if spec.facts.task == "generate" else OpenVinoEngine
        return open_onnx(spec, lambda path: kind(spec, path))


def _settings(spec: EngineSpec) -> dict[str, Any]:
    return {
        "INFERENCE_PRECISION_HINT": _HINTS[spec.precision],
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": spec.threads or default_threads(),
        "CPU_RUNTIME_CACHE_CAPACITY": _CACHED_LAYERS,
    }


class OpenVinoEngine(Engine):
    """Runs images through one compiled graph for each dtype of pixels."""

    def __init__(self, spec: EngineSpec, path: Path) -> None:
        super().__init__(OpenVinoBackend.name, spec)
        self._facts, self._path, self._settings = spec.facts, path, _settings(spec)
        self.artefact = sha256_in_name(path)
        self._core = openvino_core()
        self._core.read_model(path)  # raises if the file is damaged, so that it is exported again
        self._requests: dict[torch.dtype, Any] = {}

    def run(self, *tensors: Tensor) -> Tensor:
        """See :meth:`Engine.run`."""
        check(tensors, self._facts)
        (batch,) = tensors
        pixels = np.ascontiguousarray(batch.permute(0, 2, 3, 1).numpy())
        try:
            with memory_errors("Failed to allocate", "bad_alloc", "bad allocation"):
                if batch.dtype not in self._requests:
                    self._requests[batch.dtype] = self._compile(batch.dtype)
                result = self._requests[batch.dtype].infer([pixels], share_inputs=True, share_outputs=False)[0]
        except EngineMemoryError:
            # A request that stopped half-way keeps the shapes of that batch and fails with every later one.
            self._requests.pop(batch.dtype, None)
            raise
        return torch.from_numpy(result).permute(0, 3, 1, 2)

    def close(self) -> None:
        """Release the compiled graphs."""
        self._requests.clear()

    def _compile(self, dtype: torch.dtype) -> Any:
        if not is_intact(self._path):  # the engine may have been opened hours ago
            raise BackendError(f"{self._path}: this cached file was changed or deleted during the run; start it again")
        model = with_pixel_edges(self._core.read_model(self._path), self._facts, dtype)
        return self._core.compile_model(model, "CPU", self._settings).create_infer_request()


class OpenVinoLatentEngine(Engine):
    """Runs latents through a compiled graph."""

    def __init__(self, spec: EngineSpec, path: Path) -> None:
        super().__init__(OpenVinoBackend.name, spec)
        self._facts, self.artefact = spec.facts, sha256_in_name(path)
        core = openvino_core()
        self._request = core.compile_model(core.read_model(path), "CPU", _settings(spec)).create_infer_request()

    def run(self, *tensors: Tensor) -> Tensor:
        """See :meth:`Engine.run`."""
        check(tensors, self._facts)
        with memory_errors("Failed to allocate", "bad_alloc", "bad allocation"):
            given = [item.numpy() for item in tensors]
            result = self._request.infer(given, share_inputs=True, share_outputs=False)[0]
        return leave(torch.from_numpy(result).float(), tensors, self._facts)


def with_pixel_edges(model: Any, facts: Facts, dtype: torch.dtype) -> Any:
    """Wrap an NCHW fp32 graph in conversions from and to NHWC pixels.

    Args:
        model: OpenVINO model with one input and one output.
        facts: facts of the generator, which contain its value range.
        dtype: dtype of the pixels: uint8, uint16, or float32 in [0, 1] (the result is not clamped).
    """
    import openvino
    from openvino import opset13 as ops

    kinds = {torch.uint8: np.uint8, torch.uint16: np.uint16, torch.float32: np.float32}
    low, high = facts.value_range
    full = FULL_SCALE.get(dtype, 1.0)
    old_input, old_output = model.input(0), model.output(0)
    shape = old_input.get_partial_shape()
    pixels = ops.parameter(openvino.PartialShape([shape[0], shape[2], shape[3], shape[1]]), kinds[dtype], name="pixels")
    values = ops.convert(pixels, "f32")
    values = ops.multiply(values, np.float32((high - low) / full))
    values = ops.add(values, np.float32(low))
    values = ops.transpose(values, np.array([0, 3, 1, 2]))
    for target in old_input.get_target_inputs():
        target.replace_source_output(values.output(0))
    result = old_output.get_node().input_value(0)
    scaled = ops.multiply(ops.subtract(result, np.float32(low)), np.float32(full / (high - low)))
    if dtype != torch.float32:
        scaled = ops.round(ops.clamp(scaled, 0.0, full), "half_to_even")
        scaled = ops.convert(scaled, {torch.uint8: "u8", torch.uint16: "u16"}[dtype])
    return openvino.Model([ops.transpose(scaled, np.array([0, 2, 3, 1]))], [pixels], "pixels")


class GraphEngine(OpenVinoEngine):
    """Runs images through the module's graph, compiled once for each dtype of pixels."""

    def __init__(self, spec: EngineSpec, module: Any) -> None:
        Engine.__init__(self, OpenVinoBackend.name, spec)
        self._facts, self._module, self._settings = spec.facts, module, _settings(spec)
        self.artefact = module.sha256
        self._core = openvino_core()
        self._requests = {}

    def _compile(self, dtype: Any) -> Any:
        model = with_pixel_edges(self._module.openvino_model(), self._facts, dtype)
        return self._core.compile_model(model, "CPU", self._settings).create_infer_request()


class GraphLatentEngine(OpenVinoLatentEngine):
    """Runs latents through the module's graph."""

    def __init__(self, spec: EngineSpec, module: Any) -> None:
        Engine.__init__(self, OpenVinoBackend.name, spec)
        self._facts, self.artefact = spec.facts, module.sha256
        compiled = openvino_core().compile_model(module.openvino_model(), "CPU", _settings(spec))
        self._request = compiled.create_infer_request()
