"""What gankit does with graphs of OpenVINO: pixels at their edges, and how much memory they need. Imports no torch."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from gankit.backends.pixels import FULL_SCALE
from gankit.models.facts import Facts

_PROBE = 64  # pixels of the side on which the memory is counted
_SPARE = 1.25  # layouts are padded to whole vectors
_IN_PLACE = frozenset(
    ("Add", "Clamp", "Convert", "Divide", "Multiply", "PRelu", "Relu", "Round", "Sigmoid", "Subtract", "Tanh")
)


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
    if low:
        values = ops.add(values, np.float32(low))
    values = ops.transpose(values, np.array([0, 3, 1, 2]))
    for target in old_input.get_target_inputs():
        target.replace_source_output(values.output(0))
    result = old_output.get_node().input_value(0)
    if low:
        result = ops.subtract(result, np.float32(low))
    scaled = ops.multiply(result, np.float32(full / (high - low)))
    if dtype != np.float32:
        scaled = ops.round(ops.clamp(scaled, 0.0, full), "half_to_even")
        scaled = ops.convert(scaled, {"uint8": "u8", "uint16": "u16"}[dtype.name])
    return openvino.Model([ops.transpose(scaled, np.array([0, 2, 3, 1]))], [pixels], "pixels")


def bytes_per_pixel(model: Any, facts: Facts, itemsize: int) -> int | None:
    """Estimate the memory that the layers take at their peak, in bytes for each input pixel.

    Layers run one after another, and the plugin fuses elementwise ones into the layer before them. For SRGAN it takes
    about half of the estimate.

    Args:
        model: OpenVINO model with one NCHW input.
        facts: facts of the generator, which say what sizes it takes.
        itemsize: bytes of a value in the precision that runs.

    Returns:
        The estimate; ``None`` for a graph that takes images of one size only.
    """
    side = -(-max(_PROBE, facts.minimum) // facts.multiple) * facts.multiple
    probe = model.clone()
    try:
        probe.reshape([1, facts.channels, side, side])
    except RuntimeError:
        return None
    live: dict[Any, int] = {}  # bytes of the outputs that are still read
    readers: dict[Any, int] = {}
    held = peak = 0
    for operation in probe.get_ordered_ops():
        sources = [value.get_node().get_friendly_name() for value in operation.input_values()]
        images = [name for name in sources if name in live]
        name, kind = operation.get_friendly_name(), operation.get_type_name()
        size = 0
        if images or kind == "Parameter":
            size = itemsize * sum(math.prod(value.get_shape()) for value in operation.outputs())
        reused = max((live[item] for item in images if kind in _IN_PLACE and readers[item] == 1), default=0)
        peak = max(peak, held + max(0, size - reused))
        held += size
        for item in images:
            readers[item] -= 1
            if not readers[item]:
                held -= live.pop(item)
        if size:
            live[name] = size
            readers[name] = sum(len(value.get_target_inputs()) for value in operation.outputs())
    return math.ceil(peak * _SPARE / side**2)
