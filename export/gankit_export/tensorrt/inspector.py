"""The precision of an engine's layers, as TensorRT itself reports it.

TensorRT 11 has no flag for a precision: it does what the graph says, and makes an fp32 engine of an fp32 graph without
any warning. The share of half-precision layers proves the precision.
"""

from __future__ import annotations

import json
import re
from typing import Any

_HALF = re.compile(r"\b(half|fp16|float16|bf16|bfloat16)\b", re.IGNORECASE)
_FLOAT = re.compile(r"\b(float|fp32|float32|tf32)\b", re.IGNORECASE)


def half_layers(text: str) -> tuple[int, int]:
    """Count the layers whose floating-point tensors are all fp16 or bf16, and those that have any such tensors.

    The JSON of TensorRT 10 describes a tensor in ``"Format/Datatype"``, that of TensorRT 11 in ``"Format"`` and
    ``"DataType"``.

    Args:
        text: result of ``EngineInspector.get_engine_information`` in JSON, with an execution context whose shapes are
            set: without one, layers with dynamic shapes have no data types.

    Returns:
        Both numbers; (0, 0) if the engine was built without details.

    Raises:
        ValueError: If the text is not such JSON.
    """
    try:
        layers = json.loads(text)["Layers"]
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"TensorRT described the engine in an unknown form: {text[:60]!r}") from error
    half = every = 0
    for layer in layers:
        kinds = _kinds(layer)
        if kinds:
            every += 1
            half += kinds == {"half"}
    return half, every


def _kinds(layer: Any) -> set[str]:
    if not isinstance(layer, dict):
        return set()  # a name only
    tensors = [item for side in ("Inputs", "Outputs") for item in layer.get(side) or () if isinstance(item, dict)]
    kinds = set()
    for tensor in tensors:
        words = " ".join(str(value) for key, value in tensor.items() if "type" in key.lower())
        if _HALF.search(words):
            kinds.add("half")
        elif _FLOAT.search(words):
            kinds.add("float")
    return kinds
