"""gankit's own SRResNet without the header, of any scale, width and depth."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from gankit.checkpoints.layouts.base import Match, count, dims


def match(state: Mapping[str, Tensor]) -> Match | None:
    """Recognised by ``head.0``, ``neck.0`` and ``tail``; the number of sub-pixel stages gives the scale."""
    head = dims(state, "head.0.weight")
    if len(head) != 4 or "tail.weight" not in state or "neck.0.weight" not in state:
        return None
    options = {
        "scale": 2 ** count(state, r"upsampler\.\d+\.conv\.weight"),
        "channels": head[0],
        "blocks": count(state, r"body\.\d+\.conv1\.weight"),
        "in_channels": head[1],
    }
    return Match("srgan", options, state)
