"""Anybody's ONNX file of an image network -> the same network with the edges that gankit's own files have."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import onnx
from onnx import TensorProto, compose, helper

from gankit_export.formats import INPUT, OUTPUT

Layout = Literal["NCHW", "NHWC"]
OLDEST_OPSET = 9
_TYPES = {TensorProto.FLOAT: "float32", TensorProto.FLOAT16: "float16", TensorProto.UINT8: "uint8"}
_TO_NHWC, _TO_NCHW = (0, 2, 3, 1), (0, 3, 1, 2)
_CHANNELS = (1, 3)
_RANK = 4
_ROUNDING = [
    helper.make_tensor(f"edge/{name}", TensorProto.FLOAT, [], [value])
    for name, value in (("half", 0.5), ("zero", 0.0), ("full", 255.0))
]


class ForeignFileError(ValueError):
    """The file is no image network that gankit can run. The message is one line."""


@dataclass(frozen=True)
class Edges:
    """How a file takes its images.

    Attributes:
        layout: order of the axes of input and output.
        dtype: of the input: ``"float32"``, ``"float16"`` or ``"uint8"``.
        channels: of the input.
        fixed: height and width if the file states them as numbers.
        opset: of the file.
    """

    layout: Layout
    dtype: str
    channels: int
    fixed: tuple[int, int] | None
    opset: int


def edges(model: onnx.ModelProto) -> Edges:
    """Read how a file takes its images.

    Raises:
        ForeignFileError: It takes something else than one batch of images, or is too old.
    """
    opset = max((item.version for item in model.opset_import if item.domain in ("", "ai.onnx")), default=0)
    if opset < OLDEST_OPSET:
        raise ForeignFileError(f"opset {opset} is too old; export the model with opset 17 or later")
    if any(item.data_location == TensorProto.EXTERNAL for item in model.graph.initializer):
        raise ForeignFileError("its weights are in a second file; join them with onnx.load and onnx.save")
    weights = {item.name for item in model.graph.initializer}
    inputs = [item for item in model.graph.input if item.name not in weights]
    if len(inputs) != 1 or len(model.graph.output) != 1:
        raise ForeignFileError(
            f"is no image network: it has {len(inputs)} inputs and {len(model.graph.output)} outputs, not one of each"
        )
    kind = inputs[0].type.tensor_type
    dims = [item.dim_value or None for item in kind.shape.dim]
    if len(dims) != _RANK or len(model.graph.output[0].type.tensor_type.shape.dim) not in (0, _RANK):
        raise ForeignFileError(f"is no image network: its input has {len(dims)} axes, not {_RANK}")
    if kind.elem_type not in _TYPES:
        raise ForeignFileError(f"takes {TensorProto.DataType.Name(kind.elem_type)}, not float32, float16 or uint8")
    layout: Layout = "NHWC" if dims[1] not in _CHANNELS and dims[3] in _CHANNELS else "NCHW"
    axes = (1, 2, 3) if layout == "NCHW" else (3, 1, 2)
    channels, height, width = (dims[axis] for axis in axes)
    fixed = (height, width) if height and width else None
    return Edges(layout, _TYPES[kind.elem_type], channels or 3, fixed, opset)


def canonical(model: onnx.ModelProto, found: Edges) -> bytes:
    """Return the file with one input and one output as gankit's files have them: float32, NCHW, any size and batch.

    The values stay in the network's own range. Sizes that the file states as numbers are dropped; whether the network
    really takes others shows when it runs.

    Args:
        model: the file. It is not changed.
        found: its :func:`edges`.
    """
    inner = compose.add_prefix(model, "model/")
    graph = inner.graph
    weights = {item.name for item in graph.initializer}
    (given,) = (item for item in graph.input if item.name not in weights)
    (made,) = graph.output
    before, after = [], []
    name = INPUT
    if found.dtype == "uint8":  # a cast alone cuts the fraction off
        before += _rounded(name, "edge/rounded")
        graph.initializer.extend(_ROUNDING)
        name = "edge/rounded"
    if found.dtype != "float32":
        before.append(helper.make_node("Cast", [name], ["edge/typed"], to=given.type.tensor_type.elem_type))
        name = "edge/typed"
    before.append(_ordered(name, given.name, _TO_NHWC if found.layout == "NHWC" else None))
    after.append(helper.make_node("Cast", [made.name], ["edge/float"], to=TensorProto.FLOAT))
    after.append(_ordered("edge/float", OUTPUT, _TO_NCHW if found.layout == "NHWC" else None))
    nodes = [*before, *graph.node, *after]
    del graph.node[:], graph.value_info[:], graph.output[:]
    graph.node.extend(nodes)
    graph.input.remove(given)
    sides: list[str | int | None] = ["batch", found.channels, "height", "width"]
    graph.input.insert(0, helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, sides))
    outside: list[str | int | None] = ["batch", None, None, None]
    graph.output.append(helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, outside))
    return bytes(inner.SerializeToString())


def _rounded(source: str, target: str) -> list[onnx.NodeProto]:
    """Return nodes that round to whole numbers from 0 to 255. Older opsets have no Round."""
    return [
        helper.make_node("Add", [source, "edge/half"], ["edge/raised"]),
        helper.make_node("Floor", ["edge/raised"], ["edge/whole"]),
        helper.make_node("Max", ["edge/whole", "edge/zero"], ["edge/positive"]),
        helper.make_node("Min", ["edge/positive", "edge/full"], [target]),
    ]


def _ordered(source: str, target: str, axes: tuple[int, ...] | None) -> onnx.NodeProto:
    """Return the node that passes a tensor on, with its axes in another order if there is one."""
    if axes is None:
        return helper.make_node("Identity", [source], [target])
    return helper.make_node("Transpose", [source], [target], perm=axes)
