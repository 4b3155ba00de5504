"""An OpenVINO IR as a model: gankit's own by its manifest, and those of others by running them."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from gankit_export.foreign import Edges, Layout
from gankit_export.manifest import Manifest
from gankit_export.openvino_core import openvino_core
from torch import Tensor

from gankit.checkpoints.exported import ExportedModule, facts_of, read_manifest
from gankit.checkpoints.onnx_models import found_facts, recognised_as
from gankit.checkpoints.onnx_module import first_line
from gankit.checkpoints.types import Loaded
from gankit.errors import CheckpointError

_TYPES = {"f32": "float32", "f16": "float16", "u8": "uint8"}
_RANK = 4
_TO_NHWC, _TO_NCHW = (0, 2, 3, 1), (0, 3, 1, 2)


class IrModule(ExportedModule):
    """An OpenVINO IR as a module, which OpenVINO runs on the CPU in fp32.

    The backend ``openvino`` takes its graph as it is. The others, and the parity check, call this module.

    Args:
        graph: content of the ``.xml`` file.
        weights: content of the ``.bin`` file.

    Raises:
        CheckpointError: If OpenVINO is not installed or cannot read the files.
    """

    graph: Tensor
    weights: Tensor

    def __init__(self, graph: bytes, weights: bytes) -> None:
        super().__init__()
        for name, content in (("graph", graph), ("weights", weights)):
            kept = torch.frombuffer(bytearray(content), dtype=torch.uint8) if content else torch.zeros(0).byte()
            self.register_buffer(name, kept)
        self.sha256 = hashlib.sha256(graph + weights).hexdigest()
        self.edges = _edges(self._read())
        self._request: Any = None

    def openvino_model(self) -> Any:
        """Read the graph, with gankit's edges: float32, NCHW, any size. Latents and classes stay as they are."""
        model = self._read()
        return _float_samples(model) if self.edges is None else _canonical(model, self.edges)

    def forward(self, *given: Tensor) -> Tensor:
        """(N, C, H, W), or latents and classes, to (N, C', H', W'), in the network's own value range."""
        if not all(isinstance(item, Tensor) for item in given) or any(isinstance(x, torch.fx.Proxy) for x in given):
            raise ValueError("an OpenVINO IR has no graph of torch")
        if self._request is None:
            settings = {"INFERENCE_PRECISION_HINT": "f32"}
            self._request = openvino_core().compile_model(self.openvino_model(), "CPU", settings).create_infer_request()
        arrays = [item.detach().cpu().contiguous().numpy() for item in given]
        result = self._request.infer(arrays, share_outputs=False)[0]
        return torch.from_numpy(np.asarray(result, np.float32)).to(given[0].device)

    def _read(self) -> Any:
        try:
            core = openvino_core()
        except ImportError as error:
            raise CheckpointError("an OpenVINO IR needs OpenVINO: pip install openvino") from error
        import openvino

        graph, weights = self.graph.cpu().numpy(), self.weights.cpu().numpy()
        try:
            return core.read_model(model=graph.tobytes(), weights=openvino.Tensor(weights))
        except Exception as error:  # its exceptions derive from RuntimeError, with pages of text
            raise CheckpointError(f"OpenVINO cannot read it: {first_line(error)}") from error

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        made = type(self)(self.graph.numpy().tobytes(), self.weights.numpy().tobytes())
        memo[id(self)] = made
        return made

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_request": None}


def open_ir(path: Path) -> Loaded:
    """Load an OpenVINO IR: an ``.xml`` file with its ``.bin`` file beside it.

    The facts of a file that gankit exported are in its manifest, which is verified. Those of others are found by
    running it; see :func:`gankit.checkpoints.onnx_models.open_onnx_model`.

    Args:
        path: the ``.xml`` file.

    Raises:
        CheckpointError: A file is missing or damaged, does not match its manifest, or is no image network. One line.
    """
    manifest = read_manifest(path, "openvino")
    try:
        graph, weights = path.read_bytes(), path.with_suffix(".bin").read_bytes()
    except OSError as error:
        raise CheckpointError(f"{error.filename}: {error.strerror}; an OpenVINO IR has both files") from error
    try:
        module = IrModule(graph, weights)
        return _loaded(module.eval(), manifest, path)
    except CheckpointError as error:
        raise CheckpointError(str(error) if str(error).startswith(str(path)) else f"{path}: {error}") from error


def _loaded(module: IrModule, manifest: Manifest | None, path: Path) -> Loaded:
    if manifest is not None:
        facts = replace(facts_of(path, manifest), precisions=("fp32", "bf16"))
        worst = min(item.worst for item in manifest.parity)
        return Loaded(module, facts, module.sha256, path, f"its manifest: {manifest.precision}, {worst:.1f} dB")
    if module.edges is None:
        raise CheckpointError("is no image network: it has more than one input or output, or one that is no image")
    facts, assumed = found_facts(module, module.edges, {}, path.stem)
    facts = replace(facts, paper="an OpenVINO IR", precisions=("fp32", "bf16"))
    return Loaded(module, facts, module.sha256, path, recognised_as(module.edges, facts), assumed)


def _edges(model: Any) -> Edges | None:
    """Read how a model takes its images; ``None`` if it takes something else."""
    if len(model.inputs) != 1 or len(model.outputs) != 1:
        return None
    shape, kind = model.input(0).get_partial_shape(), model.input(0).get_element_type().get_type_name()
    if shape.rank.is_dynamic or len(shape) != _RANK or kind not in _TYPES:
        return None
    dims = [item.get_length() if item.is_static else None for item in shape]
    layout: Layout = "NHWC" if dims[1] not in (1, 3) and dims[3] in (1, 3) else "NCHW"
    channels, height, width = (dims[axis] for axis in ((1, 2, 3) if layout == "NCHW" else (3, 1, 2)))
    return Edges(layout, _TYPES[kind], channels or 3, (height, width) if height and width else None, 0)


def _canonical(model: Any, found: Edges) -> Any:
    """Return a model that takes and gives float32, NCHW; see :func:`gankit_export.foreign.canonical`."""
    import openvino
    from openvino import opset13 as ops

    if (found.layout, found.dtype, found.fixed) == ("NCHW", "float32", None):
        return model
    old_input, result = model.input(0), model.output(0).get_node().input_value(0)
    if found.fixed is not None:
        channels_first = found.layout == "NCHW"
        free = [-1, found.channels, -1, -1] if channels_first else [-1, -1, -1, found.channels]
        model.reshape(openvino.PartialShape(free))
    given = ops.parameter(openvino.PartialShape([-1, found.channels, -1, -1]), np.float32, name="input")
    values = given
    if found.layout == "NHWC":
        values = ops.transpose(values, np.array(_TO_NHWC))
    if found.dtype == "uint8":
        values = ops.clamp(ops.round(values, "half_to_even"), 0.0, 255.0)
    if found.dtype != "float32":
        values = ops.convert(values, {"uint8": "u8", "float16": "f16"}[found.dtype])
    for target in old_input.get_target_inputs():
        target.replace_source_output(values.output(0))
    made = ops.convert(result, "f32")
    if found.layout == "NHWC":
        made = ops.transpose(made, np.array(_TO_NCHW))
    return openvino.Model([made], [given], "images")


def _float_samples(model: Any) -> Any:
    """Return a model of latents that gives float32, NCHW, whether it gives that or uint8 pixels, NHWC."""
    import openvino
    from openvino import opset13 as ops

    if model.output(0).get_element_type().get_type_name() != "u8":
        return model
    made = ops.transpose(ops.convert(model.output(0).get_node().input_value(0), "f32"), np.array(_TO_NCHW))
    return openvino.Model([made], model.get_parameters(), "samples")
