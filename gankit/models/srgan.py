"""SRResNet and the SRGAN generator and discriminator (Ledig et al., CVPR 2017, arXiv:1609.04802).

SRResNet and SRGAN share one generator: they differ in how it was trained.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from gankit.models import values
from gankit.models.checks import Choice
from gankit.models.facts import Facts
from gankit.models.options import DEPTH, EPSILON, WIDTH, ModelOptions, option
from gankit.models.overshoot import Overshoot, overshoot_option

Neck = Literal["norm", "prelu"]
Slopes = Literal["shared", "channel"]


@dataclass(frozen=True)
class SRResNetOptions(ModelOptions):
    """Options of the generator of SRResNet and SRGAN."""

    scale: int = option(4, Choice((2, 4, 8)), "Enlargement, by one sub-pixel stage for every factor of two")
    channels: int = option(64, WIDTH, "Width of the body")
    blocks: int = option(16, DEPTH, "Residual blocks")
    in_channels: int = option(3, WIDTH, "Colour channels of input and output")
    neck: Neck = option(
        "norm",
        Choice(get_args(Neck)),
        "What follows the convolution that ends the body: BatchNorm as in the paper, or PReLU",
        omit=True,
    )
    slopes: Slopes = option(
        "shared", Choice(get_args(Slopes)), "Slopes of a PReLU: one, or one for every channel", omit=True
    )
    bn_eps: float = option(1e-5, EPSILON, "What BatchNorm adds to the variance", omit=True)
    values_in: values.Input = option(
        "unit", values.INPUT, "Values that the first convolution was trained on", omit=True
    )
    output: values.Output = option("linear", values.OUTPUT, "What follows the last convolution", omit=True)
    overshoot: float | None = overshoot_option()

    def check(self) -> None:
        """ImageNet's statistics are those of three channels."""
        values.check(self.values_in, self.output, self.in_channels)

    def facts(self, name: str) -> Facts:
        """See the base class."""
        return Facts(
            name=name,
            paper="Ledig et al. 2017, arXiv:1609.04802",
            task="upscale",
            scale=self.scale,
            channels=self.in_channels,
            value_range=(0.0, 1.0),
            tileable=True,
            options=self.stored(),
        )


class ResidualBlock(nn.Module):
    """Conv3x3, BatchNorm, PReLU, Conv3x3, BatchNorm, and the skip around them."""

    def __init__(self, channels: int, slopes: int = 1, bn_eps: float = 1e-5) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels, eps=bn_eps)
        self.act = nn.PReLU(slopes)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels, eps=bn_eps)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> the same shape."""
        y = self.act(self.bn1(self.conv1(x)))
        result: Tensor = x + self.bn2(self.conv2(y))
        return result


class UpsampleBlock(nn.Module):
    """Sub-pixel convolution ×2: Conv3x3 to four times the channels, PixelShuffle, PReLU."""

    def __init__(self, channels: int, slopes: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels * 4, 3, padding=1)
        self.shuffle = nn.PixelShuffle(2)
        self.act = nn.PReLU(slopes)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, 2H, 2W)."""
        result: Tensor = self.act(self.shuffle(self.conv(x)))
        return result


class SRResNet(nn.Module):
    """The generator of SRResNet and SRGAN.

    Args:
        options: ``None`` for the paper's.

    The values are RGB in [0, 1] on both sides; a linear output is not clamped. The paper's last layer has no
    activation either (its figure 4), but works in [-1, 1]; the difference is an affine one.
    """

    Options = SRResNetOptions

    def __init__(self, options: SRResNetOptions | None = None) -> None:
        super().__init__()
        o = options or SRResNetOptions()
        self.scale = o.scale
        count = o.channels if o.slopes == "channel" else 1
        last = nn.BatchNorm2d(o.channels, eps=o.bn_eps) if o.neck == "norm" else nn.PReLU(count)
        self.entrance = values.entrance(o.values_in, o.in_channels)
        self.head = nn.Sequential(nn.Conv2d(o.in_channels, o.channels, 9, padding=4), nn.PReLU(count))
        self.body = nn.Sequential(*(ResidualBlock(o.channels, count, o.bn_eps) for _ in range(o.blocks)))
        self.neck = nn.Sequential(nn.Conv2d(o.channels, o.channels, 3, padding=1, bias=o.neck != "norm"), last)
        self.upsampler = nn.Sequential(*(UpsampleBlock(o.channels, count) for _ in range(int(math.log2(o.scale)))))
        self.tail = nn.Conv2d(o.channels, o.in_channels, 9, padding=4)
        self.exit = values.exit_layer(o.output)
        self.limit = None if o.overshoot is None else Overshoot(o.scale, o.overshoot)

    def forward(self, x: Tensor) -> Tensor:
        """Upscale a batch.

        Args:
            x: (N, C, H, W) floating point, RGB in [0, 1]; any H and W.

        Returns:
            (N, C, scale·H, scale·W), nominally in [0, 1], not clamped.
        """
        features = self.head(x if self.entrance is None else self.entrance(x))
        features = features + self.neck(self.body(features))
        result: Tensor = self.tail(self.upsampler(features))
        if self.exit is not None:
            result = self.exit(result)
        return result if self.limit is None else self.limit(x, result)


class Discriminator(nn.Module):
    """SRGAN's discriminator: eight convolutions 64 -> 512, LeakyReLU 0.2, two dense layers, one logit.

    The paper's dense layer fixes the input at 96×96. An adaptive average pool to ``pool``×``pool`` before that layer
    accepts any size, and with ``pool=6`` changes nothing for 96×96.

    Args:
        in_channels: colour channels of the image.
        channels: width of the first stage (64 in the paper).
        pool: side of the feature map that the first dense layer sees (6 in the paper).
        norm: BatchNorm after every convolution but the first, as in the paper, or ``False`` for none.
    """

    def __init__(self, in_channels: int = 3, channels: int = 64, pool: int = 6, *, norm: bool = True) -> None:
        super().__init__()
        stages: list[nn.Module] = []
        width_in = in_channels
        for index in range(8):
            width = channels * 2 ** (index // 2)
            stride = 1 + index % 2
            layers: list[nn.Module] = [nn.Conv2d(width_in, width, 3, stride=stride, padding=1)]
            if norm and index:
                layers.append(nn.BatchNorm2d(width))
            layers.append(nn.LeakyReLU(0.2))
            stages.append(nn.Sequential(*layers))
            width_in = width
        self.features = nn.ModuleList(stages)
        self.pool = nn.AdaptiveAvgPool2d(pool)
        self.classifier = nn.Sequential(
            nn.Linear(width_in * pool * pool, channels * 16), nn.LeakyReLU(0.2), nn.Linear(channels * 16, 1)
        )

    def forward_features(self, x: Tensor) -> list[Tensor]:
        """The outputs of the eight stages, first to last, for feature matching."""
        outputs = []
        for stage in self.features:
            x = stage(x)
            outputs.append(x)
        return outputs

    def classify(self, features: Tensor) -> Tensor:
        """(N, 1) logits from the last stage's output."""
        result: Tensor = self.classifier(torch.flatten(self.pool(features), 1))
        return result

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) in [0, 1] -> (N, 1) logits; large means real."""
        return self.classify(self.forward_features(x)[-1])
