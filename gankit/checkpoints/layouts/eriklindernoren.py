"""The SRGAN and ESRGAN generators of eriklindernoren/PyTorch-GAN.

What no key records is taken from the code of that time. SRGAN's BatchNorms add 0.8 to the variance, and its images have
ImageNet's values on both sides, which tanh limits to [-1, 1]; before it had PReLUs it was a plain network in [-1, 1].
ESRGAN's LeakyReLUs have slope 0.01, and its images have ImageNet's values.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from gankit.checkpoints.layouts.base import Match, count, dims, rename
from gankit.checkpoints.layouts.folding import biases_into_means, norm_into_conv, with_values
from gankit.models.values import MEAN, STD, Input, Output


def srgan(state: Mapping[str, Tensor]) -> Match | None:
    """Recognised by ``res_blocks.0.conv_block.0`` and a head with activation, ``conv1.0``."""
    head = dims(state, "conv1.0.weight")
    if len(head) != 4 or "res_blocks.0.conv_block.0.weight" not in state or "conv3.0.weight" not in state:
        return None
    blocks = count(state, r"res_blocks\.\d+\.conv_block\.0\.weight")
    stages = count(state, r"upsampling\.\d+\.running_mean")
    recent = "conv1.1.weight" in state
    values_in: Input = "imagenet" if recent else "signed"
    output: Output = "tanh-imagenet" if recent else "tanh"
    new = dict(state)
    for stage in range(stages):  # a convolution, BatchNorm, PixelShuffle and an activation each
        new = norm_into_conv(new, f"upsampling.{4 * stage}", f"upsampling.{4 * stage + 1}")
    rules = [(r"conv1\.", "head."), (r"conv2\.", "neck."), (r"conv3\.0\.", "tail.")]
    parts = {0: "conv1", 1: "bn1", 2: "act", 3: "conv2", 4: "bn2"}
    rules += [(rf"res_blocks\.(\d+)\.conv_block\.{part}\.", rf"body.\1.{name}.") for part, name in parts.items()]
    for stage in range(stages):
        rules += [(rf"upsampling\.{4 * stage}\.", f"upsampler.{stage}.conv.")]
        rules += [(rf"upsampling\.{4 * stage + 3}\.", f"upsampler.{stage}.act.")]
    new = rename(new, rules)
    new = biases_into_means(new, r"(body\.\d+)\.conv([12])\.bias", r"\1.bn\2.running_mean")
    new = biases_into_means(new, r"neck\.0\.bias", "neck.1.running_mean")
    if not recent:  # ReLUs: PReLUs with slope 0
        slopes = ["head.1", *(f"body.{i}.act" for i in range(blocks)), *(f"upsampler.{i}.act" for i in range(stages))]
        new |= {f"{name}.weight": torch.zeros(1) for name in slopes}
    options = {
        "scale": 2**stages,
        "channels": head[0],
        "blocks": blocks,
        "in_channels": head[1],
        "bn_eps": 0.8 if recent else 1e-5,
        "values_in": values_in,
        "output": output,
    }
    return Match("srgan", options, with_values(new, head[1], values_in, output))


def esrgan(state: Mapping[str, Tensor]) -> Match | None:
    """Recognised by ``dense_blocks``; the last convolution absorbs the conversion from ImageNet's values."""
    head = dims(state, "conv1.weight")
    growth = dims(state, "res_blocks.0.dense_blocks.0.b1.0.weight")
    if len(head) != 4 or len(growth) != 4:
        return None
    stages = count(state, r"upsampling\.\d+\.weight")
    rules = [(r"conv1\.", "head."), (r"conv2\.", "neck."), (r"conv3\.0\.", "last.0."), (r"conv3\.2\.", "tail.")]
    rules += [(rf"upsampling\.{3 * stage}\.", f"upsampler.{stage}.0.") for stage in range(stages)]
    for conv in range(5):
        rules += [(rf"res_blocks\.(\d+)\.dense_blocks\.(\d)\.b{conv + 1}\.0\.", rf"body.\1.dense.\2.convs.{conv}.")]
    new = rename(state, rules)
    kernel, bias = new.get("tail.weight"), new.get("tail.bias")
    values_in: Input = "imagenet" if head[1] == 3 else "unit"
    if values_in == "imagenet" and dims(new, "tail.weight")[:1] == (3,) and dims(new, "tail.bias") == (3,):
        assert kernel is not None
        assert bias is not None
        std, mean = (torch.tensor(numbers, dtype=torch.float64) for numbers in (STD, MEAN))
        new["tail.weight"] = (kernel.double() * std.reshape(-1, *[1] * (kernel.ndim - 1))).float()
        new["tail.bias"] = (bias.double() * std + mean).float()
    options = {
        "scale": 2**stages,
        "channels": head[0],
        "growth": growth[0],
        "blocks": count(state, r"res_blocks\.\d+\.dense_blocks\.0\.b1\.0\.weight"),
        "in_channels": head[1],
        "upsampler": "shuffle",
        "slope": 0.01,
        "values_in": values_in,
    }
    return Match("esrgan", options, with_values(new, head[1], values_in, "linear"))
