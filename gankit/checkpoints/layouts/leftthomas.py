"""The generator of leftthomas/SRGAN: biased convolutions before BatchNorm, and (tanh + 1) / 2 at the end."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from gankit.checkpoints.layouts.base import Match, count, dims, rename
from gankit.checkpoints.layouts.folding import biases_into_means


def match(state: Mapping[str, Tensor]) -> Match | None:
    """Recognised by ``block1.0`` and the ``conv`` in the last block; values are RGB in [0, 1] on both sides.

    Old files have one PReLU behind the body where the paper has BatchNorm, and files of all ages PReLUs with one slope.
    """
    head = dims(state, "block1.0.weight")
    blocks = count(state, r"block\d+\.conv1\.weight")
    last = blocks + 3  # block1 is the head, then come the residual blocks, the neck and the upsampler
    if len(head) != 4 or not blocks or f"block{last}.0.conv.weight" not in state:
        return None
    stages = count(state, rf"block{last}\.\d+\.conv\.weight")
    rules = [(r"block1\.", "head."), (rf"block{blocks + 2}\.", "neck."), (rf"block{last}\.{stages}\.", "tail.")]
    rules += [
        (rf"block{last}\.(\d+)\.conv\.", r"upsampler.\1.conv."),
        (rf"block{last}\.(\d+)\.prelu\.", r"upsampler.\1.act."),
    ]
    for block in range(blocks):
        rules += [(rf"block{block + 2}\.prelu\.", f"body.{block}.act."), (rf"block{block + 2}\.", f"body.{block}.")]
    options = {
        "scale": 2**stages,
        "channels": head[0],
        "blocks": blocks,
        "in_channels": head[1],
        "neck": "norm" if f"block{blocks + 2}.1.running_mean" in state else "prelu",
        "slopes": "shared" if dims(state, "block1.1.weight") == (1,) else "channel",
        "output": "tanh",
    }
    renamed = rename(state, rules)
    renamed = biases_into_means(renamed, r"(body\.\d+)\.conv([12])\.bias", r"\1.bn\2.running_mean")
    return Match("srgan", options, biases_into_means(renamed, r"neck\.0\.bias", "neck.1.running_mean"))
