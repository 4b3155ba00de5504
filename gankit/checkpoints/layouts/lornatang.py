"""The SRResNet of Lornatang/SRGAN-PyTorch: gankit's under other names."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from gankit.checkpoints.layouts.base import Match, count, dims, rename

_RULES = [
    (r"conv1\.", "head."),
    (r"trunk\.(\d+)\.rcb\.0\.", r"body.\1.conv1."),
    (r"trunk\.(\d+)\.rcb\.1\.", r"body.\1.bn1."),
    (r"trunk\.(\d+)\.rcb\.2\.", r"body.\1.act."),
    (r"trunk\.(\d+)\.rcb\.3\.", r"body.\1.conv2."),
    (r"trunk\.(\d+)\.rcb\.4\.", r"body.\1.bn2."),
    (r"conv2\.", "neck."),
    (r"upsampling\.(\d+)\.upsample_block\.0\.", r"upsampler.\1.conv."),
    (r"upsampling\.(\d+)\.upsample_block\.2\.", r"upsampler.\1.act."),
    (r"conv3\.", "tail."),
]


def match(state: Mapping[str, Tensor]) -> Match | None:
    """Recognised by ``trunk.0.rcb.0``; values are RGB in [0, 1] on both sides."""
    head = dims(state, "conv1.0.weight")
    if len(head) != 4 or "trunk.0.rcb.0.weight" not in state:
        return None
    options = {
        "scale": 2 ** count(state, r"upsampling\.\d+\.upsample_block\.0\.weight"),
        "channels": head[0],
        "blocks": count(state, r"trunk\.\d+\.rcb\.0\.weight"),
        "in_channels": head[1],
    }
    return Match("srgan", options, rename(state, _RULES))
