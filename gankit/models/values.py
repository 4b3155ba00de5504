"""The values that a network works in where they are not RGB in [0, 1], and the layers at its ends that convert them.

A generator takes and returns [0, 1] whatever its weights were trained for, so that nobody outside has to know.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from gankit.models.checks import Choice

Input = Literal["unit", "signed", "imagenet"]
Output = Literal["linear", "tanh", "tanh-imagenet"]

INPUT, OUTPUT = Choice(get_args(Input)), Choice(get_args(Output))
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet's images, as torchvision gives them


class Standardise(nn.Module):
    """(x - mean) / std of every channel; it has no trainable weights.

    Written as a BatchNorm with fixed statistics: every engine knows that layer, and narrow precisions keep its
    statistics in float32, where a rounded mean would shift the colours.

    Args:
        mean: one number for every channel.
        std: one number for every channel, each larger than 0.01.
    """

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(len(mean), affine=False)
        assert self.norm.running_mean is not None
        assert self.norm.running_var is not None
        self.norm.running_mean.copy_(torch.tensor(mean))
        self.norm.running_var.copy_(torch.tensor(std, dtype=torch.float64).square() - self.norm.eps)
        self.train(False)

    def train(self, mode: bool = True) -> Standardise:
        """Stay in eval mode: a batch's own statistics would be wrong here."""
        return super().train(False)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> the same shape."""
        result: Tensor = self.norm(x)
        return result


class Unit(nn.Module):
    """(tanh(x) + 1) / 2, computed as sigmoid(2x), which is the same and rounds once."""

    def __init__(self) -> None:
        super().__init__()
        self.sigmoid = nn.Sigmoid()

    def forward(self, x: Tensor) -> Tensor:
        """Any shape -> the same shape, in [0, 1]."""
        result: Tensor = self.sigmoid(x * 2)
        return result


def entrance(kind: Input, channels: int) -> Standardise | None:
    """The layer that converts [0, 1] to what the network was trained on; ``None`` where that is [0, 1].

    Args:
        kind: ``"signed"`` for [-1, 1]; ``"imagenet"`` for ImageNet's, whose mean is 0 and deviation 1.
        channels: of the image; 3 for ``"imagenet"``.
    """
    if kind == "unit":
        return None
    return Standardise(MEAN, STD) if kind == "imagenet" else Standardise([0.5] * channels, [0.5] * channels)


def exit_layer(kind: Output) -> nn.Module | None:
    """The layer behind the last convolution; ``None`` for ``"linear"``.

    Args:
        kind: ``"tanh"`` where -1 is black and 1 is white; ``"tanh-imagenet"`` where tanh yields ImageNet's values.
    """
    if kind == "linear":
        return None
    if kind == "tanh":
        return Unit()
    back = Standardise([-mean / std for mean, std in zip(MEAN, STD, strict=True)], [1 / std for std in STD])
    return nn.Sequential(nn.Tanh(), back)


def check(values_in: Input, output: Output, channels: int) -> None:
    """Require three channels where values are ImageNet's.

    Raises:
        ValueError: ImageNet's statistics would meet other than three channels.
    """
    if channels != 3 and "imagenet" in f"{values_in} {output}":
        raise ValueError(f"in_channels must be 3 for ImageNet's values, not {channels}")
