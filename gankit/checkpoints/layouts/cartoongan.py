"""The CartoonGAN generator of Yijunmaverick/CartoonGAN-Test-Pytorch-Torch: gankit's under other names."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

from gankit.checkpoints.layouts.base import Match, count, dims

_CONVS = {
    "conv01_1": "head.1",
    "conv02_1": "down.0.0",
    "conv02_2": "down.0.1",
    "conv03_1": "down.1.0",
    "conv03_2": "down.1.1",
    "deconv01_1": "up.0.0",
    "deconv01_2": "up.0.1",
    "deconv02_1": "up.1.0",
    "deconv02_2": "up.1.1",
    "deconv03_1": "tail.1",
}
_NORMS = {"in01_1": "head.2", "in02_1": "down.0.2", "in03_1": "down.1.2", "in12_1": "up.0.2", "in13_1": "up.1.2"}
_BLOCK = {("conv", "1"): "1", ("in", "1"): "2", ("conv", "2"): "5", ("in", "2"): "6"}
_PARTS = {"scale": "weight", "shift": "bias"}


def match(state: Mapping[str, Tensor]) -> Match | None:
    """Recognised by ``in01_1.scale`` and ``deconv03_1``; values are BGR in [-1, 1] on both sides, the default here."""
    first = dims(state, "conv01_1.weight")
    if len(first) != 4 or "in01_1.scale" not in state or "deconv03_1.weight" not in state:
        return None
    blocks = count(state, r"conv\d\d_2\.weight") - 2  # two of them are on the way down
    options = {"channels": first[0], "blocks": blocks, "in_channels": first[1]}
    return Match("cartoongan", options, {_name(name): value for name, value in state.items()})


def _name(name: str) -> str:
    layer, _, part = name.rpartition(".")
    part = _PARTS.get(part, part)
    if layer in _CONVS or layer in _NORMS:
        return f"{(_CONVS | _NORMS)[layer]}.{part}"
    block = re.fullmatch(r"(conv|in)(\d\d)_([12])", layer)
    if block is None:
        return name
    kind, number, half = block.groups()
    return f"body.{int(number) - 4}.layers.{_BLOCK[kind, half]}.{part}"
