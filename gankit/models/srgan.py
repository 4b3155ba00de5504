"""SRResNet and the SRGAN generator and discriminator (Ledig et al., CVPR 2017, arXiv:1609.04802).

SRResNet and SRGAN share one generator: they differ in how it was trained.
"""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
from torch import Tensor, nn

from gankit.models import values
from gankit.models.checks import one_of, whole
from gankit.models.facts import Facts

Neck = Literal["norm", "prelu"]
Slopes = Literal["shared", "channel"]

_SCALES = (2, 4, 8)
_MOST = {"channels": 4096, "blocks": 1024, "in_channels": 4096}  # beyond them a weights file is damaged


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
        return x + self.bn2(self.conv2(y))


class UpsampleBlock(nn.Module):
    """Sub-pixel convolution ×2: Conv3x3 to four times the channels, PixelShuffle, PReLU."""

    def __init__(self, channels: int, slopes: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels * 4, 3, padding=1)
        self.shuffle = nn.PixelShuffle(2)
        self.act = nn.PReLU(slopes)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, 2H, 2W)."""
        return self.act(self.shuffle(self.conv(x)))


class SRResNet(nn.Module):
    """The generator of SRResNet and SRGAN.

    Args:
        scale: 2, 4 or 8; one sub-pixel stage for every factor of two.
        channels: width of the body (64 in the paper).
        blocks: residual blocks (16 in the paper).
        in_channels: colour channels of input and output.
        neck: what follows the convolution that ends the body: BatchNorm as in the paper, or PReLU.
        slopes: of a PReLU: one, or one for every channel.
        bn_eps: what BatchNorm adds to the variance.
        values_in: what the first convolution was trained on (see :func:`gankit.models.values.entrance`).
        output: what follows the last convolution (see :func:`gankit.models.values.exit_layer`).

    The values are RGB in [0, 1] on both sides; a linear output is not clamped. The paper's last layer has no
    activation either (its figure 4), but works in [-1, 1]; the difference is an affine one.
    """

    def __init__(
        self,
        scale: int = 4,
        channels: int = 64,
        blocks: int = 16,
        in_channels: int = 3,
        *,
        neck: Neck = "norm",
        slopes: Slopes = "shared",
        bn_eps: float = 1e-5,
        values_in: values.Input = "unit",
        output: values.Output = "linear",
    ) -> None:
        if scale not in _SCALES:
            raise ValueError(f"scale must be 2, 4 or 8, not {scale}")
        super().__init__()
        self.scale = scale
        count = channels if slopes == "channel" else 1
        last = nn.BatchNorm2d(channels, eps=bn_eps) if neck == "norm" else nn.PReLU(count)
        self.entrance = values.entrance(values_in, in_channels)
        self.head = nn.Sequential(nn.Conv2d(in_channels, channels, 9, padding=4), nn.PReLU(count))
        self.body = nn.Sequential(*(ResidualBlock(channels, count, bn_eps) for _ in range(blocks)))
        self.neck = nn.Sequential(nn.Conv2d(channels, channels, 3, padding=1, bias=neck != "norm"), last)
        self.upsampler = nn.Sequential(*(UpsampleBlock(channels, count) for _ in range(int(math.log2(scale)))))
        self.tail = nn.Conv2d(channels, in_channels, 9, padding=4)
        self.exit = values.exit_layer(output)

    def forward(self, x: Tensor) -> Tensor:
        """Upscale a batch.

        Args:
            x: (N, C, H, W) floating point, RGB in [0, 1]; any H and W.

        Returns:
            (N, C, scale·H, scale·W), nominally in [0, 1], not clamped.
        """
        if self.entrance is not None:
            x = self.entrance(x)
        x = self.head(x)
        x = x + self.neck(self.body(x))
        x = self.tail(self.upsampler(x))
        return x if self.exit is None else self.exit(x)


class Discriminator(nn.Module):
    """SRGAN's discriminator: eight convolutions 64 -> 512, LeakyReLU 0.2, two dense layers, one logit.

    The paper's dense layer fixes the input at 96×96. An adaptive average pool to ``pool``×``pool`` before it
    lets any size in, and leaves the published layer for 96×96 with ``pool=6``.

    Args:
        in_channels: colour channels of the judged image.
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
        return self.classifier(torch.flatten(self.pool(features), 1))

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) in [0, 1] -> (N, 1) logits; large means real."""
        return self.classify(self.forward_features(x)[-1])


def facts(
    name: str = "srgan",
    scale: int = 4,
    channels: int = 64,
    blocks: int = 16,
    in_channels: int = 3,
    *,
    neck: Neck = "norm",
    slopes: Slopes = "shared",
    bn_eps: float = 1e-5,
    values_in: values.Input = "unit",
    output: values.Output = "linear",
) -> Facts:
    """What a user of the generator must know before running it.

    Raises:
        ValueError: an option is not a whole number, or is one that no network of ours has.
    """
    if type(scale) is not int or scale not in _SCALES:
        raise ValueError(f"scale must be 2, 4 or 8, not {scale!r}")
    for option, value in (("channels", channels), ("blocks", blocks), ("in_channels", in_channels)):
        whole(option, value, _MOST[option])
    one_of("neck", neck, ("norm", "prelu"))
    one_of("slopes", slopes, ("shared", "channel"))
    if type(bn_eps) is not float or not 0 < bn_eps <= 1:
        raise ValueError(f"bn_eps must be a number above 0 and up to 1, not {bn_eps!r}")
    values.check(values_in, output, in_channels)
    # The others only where they differ from the paper: files of plain networks stay as they were.
    more: dict[str, Any] = {
        "neck": (neck, "norm"),
        "slopes": (slopes, "shared"),
        "bn_eps": (bn_eps, 1e-5),
        "values_in": (values_in, "unit"),
        "output": (output, "linear"),
    }
    return Facts(
        name=name,
        paper="Ledig et al. 2017, arXiv:1609.04802",
        task="upscale",
        scale=scale,
        channels=in_channels,
        value_range=(0.0, 1.0),
        multiple=1,
        norm="batch",
        options={
            "scale": scale,
            "channels": channels,
            "blocks": blocks,
            "in_channels": in_channels,
            **{option: value for option, (value, usual) in more.items() if value != usual},
        },
    )
