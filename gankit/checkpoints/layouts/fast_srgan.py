"""HasnainRaz/Fast-SRGAN in PyTorch, with InstanceNorm or BatchNorm, with full or depthwise blocks.

InstanceNorms have no weights, and so no names: a file without a BatchNorm is of a network with InstanceNorms.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from gankit.checkpoints.layouts.base import Match, count, dims, rename
from gankit.checkpoints.layouts.folding import with_values

_RULES = [
    (r"neck\.", "head."),  # it calls "neck" and "head" what gankit calls "head" and "tail"
    (r"stem\.(\d+)\.relu1\.", r"body.\1.act."),
    (r"stem\.", "body."),
    (r"bottleneck\.", "neck."),
    (r"upsampling\.(\d+)\.relu\.", r"upsampler.\1.act."),
    (r"upsampling\.", "upsampler."),
    (r"head\.0\.", "tail."),
]


def match(state: Mapping[str, Tensor]) -> Match | None:
    """Recognised by ``stem.0.conv1`` and ``bottleneck.0``; values are RGB in [-1, 1], tanh at the end."""
    head, conv = dims(state, "neck.0.weight"), dims(state, "stem.0.conv1.weight")
    if len(head) != 4 or len(conv) != 4 or "bottleneck.0.weight" not in state:
        return None
    options = {
        "scale": 2 ** count(state, r"upsampling\.\d+\.conv\.weight"),
        "channels": head[0],
        "blocks": count(state, r"stem\.\d+\.conv1\.weight"),
        "in_channels": head[1],
        "norm": "batch" if "stem.0.bn1.weight" in state else "instance",
        "depthwise": conv[1] == 1 < conv[0],
    }
    return Match("fast_srgan", options, with_values(rename(state, _RULES), head[1], "signed", "linear"))
