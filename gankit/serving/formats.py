"""The format of a result: what the query names, or what the client accepts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, get_args

from gankit.images import writer_of
from gankit.images.formats import Format
from gankit.serving.problems import Problem

FormatName = Literal["png", "jpeg", "webp"]
MEDIA_TYPES: Mapping[FormatName, str] = {name: f"image/{name}" for name in get_args(FormatName)}
IMAGE_RESPONSE: dict[str, Any] = {
    "description": "The image.",
    "content": {media: {"schema": {"type": "string", "format": "binary"}} for media in MEDIA_TYPES.values()},
    "headers": {
        "X-Gankit-Size": {"description": "Width and height, such as 3072x2048.", "schema": {"type": "string"}},
        "X-Gankit-Engine": {"description": "The engine, such as openvino bf16 (cpu).", "schema": {"type": "string"}},
        "X-Gankit-Engine-Share": {
            "description": "The part of the time in the service, without the upload, that the engine took: 0 to 1.",
            "schema": {"type": "number"},
        },
        "X-Gankit-Notes": {"description": "What the result cannot have of its source.", "schema": {"type": "string"}},
        "Server-Timing": {
            "description": "Milliseconds to decode, in the queue, in the engine, and to encode.",
            "schema": {"type": "string"},
        },
    },
}


def chosen_format(named: FormatName | None, accept: str | None) -> FormatName:
    """Return the format of a result.

    Args:
        named: the format in the query, which takes precedence.
        accept: the ``Accept`` header. PNG is preferred among formats that are equally welcome.

    Raises:
        Problem: If the client accepts none of them.
    """
    if named is not None:
        return named
    if not accept or not accept.strip():
        return "png"
    weights = _weights(accept)
    best = max(MEDIA_TYPES, key=lambda name: _weight(weights, MEDIA_TYPES[name]))
    if _weight(weights, MEDIA_TYPES[best]) <= 0:
        raise Problem(406, f"results are {', '.join(MEDIA_TYPES.values())}; accept one of them, or name a format")
    return best


def writer(name: FormatName) -> Format:
    """Return the format's record."""
    found = writer_of(f".{name}")
    assert found is not None
    return found


def _weights(accept: str) -> dict[str, float]:
    """Parse an ``Accept`` header (RFC 9110, 12.5.1): media ranges and their weights."""
    weights: dict[str, float] = {}
    for part in accept.split(","):
        media, *parameters = (piece.strip().lower() for piece in part.split(";"))
        weight = 1.0
        for parameter in parameters:
            key, _, value = parameter.partition("=")
            if key.strip() == "q":
                try:
                    weight = min(1.0, max(0.0, float(value)))
                except ValueError:
                    weight = 0.0
        weights[media] = weight
    return weights


def _weight(weights: Mapping[str, float], media: str) -> float:
    """Return the weight of a media type by the most specific range that it is in."""
    return next((weights[each] for each in (media, "image/*", "*/*") if each in weights), 0.0)
