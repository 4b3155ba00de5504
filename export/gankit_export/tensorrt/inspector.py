"""The precision of an engine's layers, as TensorRT itself reports it.

TensorRT 11 has no flag for a precision: it does what the graph says, and makes an fp32 engine of an fp32 graph without
any warning. The share of half-precision layers proves the precision.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

_INT8 = re.compile(r"\bint8\b", re.IGNORECASE)
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
    layers = _layers(text)
    half = every = 0
    for layer in layers:
        kinds = _kinds(layer)
        if kinds:
            every += 1
            half += kinds == {"half"}
    return half, every


def int8_layers(text: str) -> tuple[int, int]:
    """Count the layers that read int8 tensors, and all that have tensors with a type.

    Args:
        text: as for :func:`half_layers`.

    Raises:
        ValueError: If the text is not such JSON.
    """
    found = [words for layer in _layers(text) if any(words := _types(layer, ("Inputs",)))]
    return sum(any(map(_INT8.search, words)) for words in found), len(found)


def _layers(text: str) -> list[Any]:
    try:
        layers: list[Any] = json.loads(text)["Layers"]
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"TensorRT described the engine in an unknown form: {text[:60]!r}") from error
    return layers


def _types(layer: Any, sides: Sequence[str]) -> list[str]:
    """Return the words that describe the types of the tensors of a layer."""
    if not isinstance(layer, dict):
        return []  # a name only
    tensors = [item for side in sides for item in layer.get(side) or () if isinstance(item, dict)]
    return [" ".join(str(value) for key, value in item.items() if "type" in key.lower()) for item in tensors]


def _kinds(layer: Any) -> set[str]:
    kinds = set()
    for words in _types(layer, ("Inputs", "Outputs")):
        if _HALF.search(words):
            kinds.add("half")
        elif _FLOAT.search(words):
            kinds.add("float")
    return kinds
