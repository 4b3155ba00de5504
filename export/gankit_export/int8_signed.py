"""Q/DQ nodes as TensorRT reads them: signed 8-bit values with zero points of 0.

NNCF's symmetric ranges have zero points of 0, and unsigned values where none is below 0, such as behind a ReLU. Signed
values of the same range have half as many levels.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

_PAIR = ("QuantizeLinear", "DequantizeLinear")
_UNSIGNED_OVER_SIGNED = np.float32(255 / 127)


def signed(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a copy in which unsigned Q/DQ nodes with zero points of 0 are signed; all others stay as they are.

    Args:
        model: with the scales and the zero points as initializers.
    """
    result = onnx.ModelProto()
    result.CopyFrom(model)
    values = {item.name: item for item in result.graph.initializer}
    made: set[str] = set()
    for node in result.graph.node:
        zero = values.get(node.input[2]) if node.op_type in _PAIR and len(node.input) > 2 else None
        if zero is None or zero.data_type != TensorProto.UINT8 or np.any(numpy_helper.to_array(zero)):
            continue
        if node.op_type == "DequantizeLinear" and node.input[0] in values:
            continue  # stored weights
        scale, kind = values[node.input[1]], numpy_helper.to_array(zero)
        names = [f"{node.input[1]}/signed", f"{node.input[2]}/signed"]
        wider = (numpy_helper.to_array(scale) * _UNSIGNED_OVER_SIGNED).astype(np.float32)
        for array, name in ((wider, names[0]), (kind.astype(np.int8), names[1])):
            if name not in made:
                made.add(name)
                result.graph.initializer.append(numpy_helper.from_array(np.asarray(array), name))
        node.input[1], node.input[2] = names
    outputs = {node.output[0] for node in result.graph.node if node.op_type == _PAIR[0]}
    for item in [item for item in result.graph.value_info if item.name in outputs]:
        result.graph.value_info.remove(item)  # its type may have changed
    return result


def unreadable_by_tensorrt(model: onnx.ModelProto) -> str | None:
    """Return why TensorRT does not read the Q/DQ nodes of a file, with the name of the node; ``None`` if it does.

    It takes signed 8-bit values with a zero point of 0: symmetric ranges.
    """
    values = {item.name: item for item in model.graph.initializer}
    values |= {
        node.output[0]: node.attribute[0].t
        for node in model.graph.node
        if node.op_type == "Constant" and node.attribute and node.attribute[0].name == "value"
    }
    for node in model.graph.node:
        if node.op_type not in _PAIR:
            continue
        zero = values.get(node.input[2]) if len(node.input) > 2 else None
        if zero is None:
            return f"'{node.name}' has no constant zero point"
        if zero.data_type != TensorProto.INT8:
            return f"'{node.name}' has {TensorProto.DataType.Name(zero.data_type)} values, not INT8"
        if np.any(numpy_helper.to_array(zero)):
            return f"'{node.name}' has a zero point that is not 0"
    return None
