"""Files for the tests of figures."""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper


def write_idx(path: Path, values: np.ndarray) -> None:
    """An IDX file of unsigned bytes."""
    path.write_bytes(bytes([0, 0, 8, values.ndim]) + np.array(values.shape, ">u4").tobytes() + values.tobytes())


def onnx_file(path: Path, shape: list, *, logits: bool = False, flat: bool = True) -> Path:
    """A network whose features are the channels' means, and whose logits are twice those."""
    nodes = [helper.make_node("GlobalAveragePool" if flat else "Identity", ["x"], ["mean"])]
    outputs = [helper.make_tensor_value_info("mean", TensorProto.FLOAT, None)]
    if logits:
        nodes.append(helper.make_node("Add", ["mean", "mean"], ["twice"]))
        outputs.append(helper.make_tensor_value_info("twice", TensorProto.FLOAT, None))
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)]
    graph = helper.make_graph(nodes, "means", inputs, outputs)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    return path
