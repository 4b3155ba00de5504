"""The SRResNet and SRGAN of sgrvinod/a-PyTorch-Tutorial-to-Super-Resolution, saved as a state dict.

The tutorial's own files pickle the whole module, which is refused. Its input has ImageNet's values, its output is tanh.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from gankit.checkpoints.layouts.base import Match, count, dims, rename
from gankit.checkpoints.layouts.folding import biases_into_means, with_values

_RULES = [
    (r"conv_block1\.conv_block\.", "head."),
    (r"residual_blocks\.(\d+)\.conv_block([12])\.conv_block\.0\.", r"body.\1.conv\2."),
    (r"residual_blocks\.(\d+)\.conv_block([12])\.conv_block\.1\.", r"body.\1.bn\2."),
    (r"residual_blocks\.(\d+)\.conv_block1\.conv_block\.2\.", r"body.\1.act."),
    (r"conv_block2\.conv_block\.", "neck."),
    (r"subpixel_convolutional_blocks\.(\d+)\.conv\.", r"upsampler.\1.conv."),
    (r"subpixel_convolutional_blocks\.(\d+)\.prelu\.", r"upsampler.\1.act."),
    (r"conv_block3\.conv_block\.0\.", "tail."),
]


def match(state: Mapping[str, Tensor]) -> Match | None:
    """Recognised by ``residual_blocks.0.conv_block1``, behind ``net.`` in SRGAN's generator."""
    if all(name.startswith("net.") for name in state):
        state = {name.removeprefix("net."): value for name, value in state.items()}
    head = dims(state, "conv_block1.conv_block.0.weight")
    if len(head) != 4 or "residual_blocks.0.conv_block1.conv_block.0.weight" not in state:
        return None
    options = {
        "scale": 2 ** count(state, r"subpixel_convolutional_blocks\.\d+\.conv\.weight"),
        "channels": head[0],
        "blocks": count(state, r"residual_blocks\.\d+\.conv_block1\.conv_block\.0\.weight"),
        "in_channels": head[1],
        "values_in": "imagenet",
        "output": "tanh",
    }
    renamed = rename(state, _RULES)
    renamed = biases_into_means(renamed, r"(body\.\d+)\.conv([12])\.bias", r"\1.bn\2.running_mean")
    renamed = biases_into_means(renamed, r"neck\.0\.bias", "neck.1.running_mean")
    return Match("srgan", options, with_values(renamed, head[1], "imagenet", "tanh"))
