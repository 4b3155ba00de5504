"""ESRGAN: the RRDB generator and its discriminator (Wang et al., ECCVW 2018, arXiv:1809.00219).

Real-ESRGAN (Wang et al. 2021, arXiv:2107.10833) uses the same generator, for ×1 and ×2 with a pixel-unshuffled input.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from gankit.models import values
from gankit.models.checks import Choice, Number
from gankit.models.facts import Facts
from gankit.models.options import DEPTH, WIDTH, ModelOptions, option

Upsampler = Literal["nearest", "shuffle"]

UPSAMPLER = Choice(get_args(Upsampler))
SLOPE = Number(0, 1)  # of a LeakyReLU below zero
_RESIDUAL = 0.2  # the paper's residual scaling


@dataclass(frozen=True)
class RRDBNetOptions(ModelOptions):
    """Options of the generator of ESRGAN and Real-ESRGAN."""

    scale: int = option(4, Choice((1, 2, 3, 4, 8, 16)), "Enlargement")
    channels: int = option(64, WIDTH, "Width of the trunk")
    growth: int = option(32, WIDTH, "Channels that each convolution of a dense block adds")
    blocks: int = option(23, DEPTH, "Residual-in-residual dense blocks")
    in_channels: int = option(3, WIDTH, "Colour channels of input and output")
    unshuffle: int = option(
        1, Choice((1, 2, 4)), "Factor by which the input is folded along both axes first; 1 where the scale is 3"
    )
    upsampler: Upsampler = option(
        "nearest",
        UPSAMPLER,
        "Nearest-neighbour enlargement and a convolution as in the paper, or a sub-pixel convolution",
    )
    slope: float = option(0.2, SLOPE, "Slope of every LeakyReLU below zero")
    values_in: values.Input = option("unit", values.INPUT, "Values that the first convolution was trained on")

    def check(self) -> None:
        """A folded ×3 network does not exist, and ImageNet's statistics are those of three channels."""
        if self.scale == 3 and self.unshuffle != 1:
            raise ValueError(f"unshuffle must be 1 for scale 3, not {self.unshuffle}")
        values.check(self.values_in, "linear", self.in_channels)

    def facts(self, name: str) -> Facts:
        """See the base class."""
        return Facts(
            name=name,
            paper="Wang et al. 2018, arXiv:1809.00219",
            task="upscale",
            scale=self.scale,
            channels=self.in_channels,
            value_range=(0.0, 1.0),
            multiple=self.unshuffle,
            tileable=True,
            options=self.stored(),
        )


class DenseBlock(nn.Module):
    """Five 3×3 convolutions, each of which takes the results of all before it, and the scaled skip around them."""

    def __init__(self, channels: int, growth: int, slope: float) -> None:
        super().__init__()
        widths = [growth] * 4 + [channels]
        self.convs = nn.ModuleList(
            nn.Conv2d(channels + index * growth, width, 3, padding=1) for index, width in enumerate(widths)
        )
        self.act = nn.LeakyReLU(slope)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> the same shape."""
        first, *inner, last = self.convs
        features = [x, self.act(first(x))]
        for conv in inner:
            features.append(self.act(conv(torch.cat(features, 1))))
        result: Tensor = x + last(torch.cat(features, 1)) * _RESIDUAL
        return result


class RRDB(nn.Module):
    """The residual in residual dense block: three dense blocks and the scaled skip around them."""

    def __init__(self, channels: int, growth: int, slope: float) -> None:
        super().__init__()
        self.dense = nn.Sequential(*(DenseBlock(channels, growth, slope) for _ in range(3)))

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> the same shape."""
        result: Tensor = x + self.dense(x) * _RESIDUAL
        return result


class RRDBNet(nn.Module):
    """The generator of ESRGAN and Real-ESRGAN.

    Args:
        options: ``None`` for the paper's.

    The values are RGB in [0, 1] on both sides; the output is not clamped.
    """

    Options = RRDBNetOptions

    def __init__(self, options: RRDBNetOptions | None = None) -> None:
        super().__init__()
        o = options or RRDBNetOptions()
        self.scale = o.scale
        self.entrance = values.entrance(o.values_in, o.in_channels)
        self.unshuffle = nn.PixelUnshuffle(o.unshuffle) if o.unshuffle > 1 else None
        self.head = nn.Conv2d(o.in_channels * o.unshuffle**2, o.channels, 3, padding=1)
        self.body = nn.Sequential(*(RRDB(o.channels, o.growth, o.slope) for _ in range(o.blocks)))
        self.neck = nn.Conv2d(o.channels, o.channels, 3, padding=1)
        enlarge = (upsample_block(o.channels, step, o.upsampler, o.slope) for step in steps(o.scale * o.unshuffle))
        self.upsampler = nn.Sequential(*enlarge)
        self.last = nn.Sequential(nn.Conv2d(o.channels, o.channels, 3, padding=1), nn.LeakyReLU(o.slope))
        self.tail = nn.Conv2d(o.channels, o.in_channels, 3, padding=1)
        for module in self.modules():  # a deep net without norms begins near the identity (the paper's section 3.1)
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)
                module.weight.data.mul_(0.1)

    def forward(self, x: Tensor) -> Tensor:
        """Upscale a batch.

        Args:
            x: (N, C, H, W) floating point, RGB in [0, 1]; H and W multiples of ``unshuffle``.

        Returns:
            (N, C, scale·H, scale·W), nominally in [0, 1], not clamped.
        """
        if self.entrance is not None:
            x = self.entrance(x)
        if self.unshuffle is not None:
            x = self.unshuffle(x)
        x = self.head(x)
        x = x + self.neck(self.body(x))
        result: Tensor = self.tail(self.last(self.upsampler(x)))
        return result


def upsample_block(channels: int, step: int, kind: Upsampler, slope: float) -> nn.Sequential:
    """Enlarge by ``step``: (N, C, H, W) -> (N, C, step·H, step·W). A slope of 0 is a ReLU.

    The convolution is layer 1 of ``"nearest"`` and layer 0 of ``"shuffle"``, as in the published networks.
    """
    act = nn.LeakyReLU(slope) if slope else nn.ReLU()
    if kind == "nearest":
        enlarge = nn.Upsample(scale_factor=step, mode="nearest")
        return nn.Sequential(enlarge, nn.Conv2d(channels, channels, 3, padding=1), act)
    conv = nn.Conv2d(channels, channels * step**2, 3, padding=1)
    return nn.Sequential(conv, nn.PixelShuffle(step), act)


def steps(scale: int) -> list[int]:
    """The factors of the enlargements that follow each other: 3 in one step, others by twos."""
    return [3] if scale == 3 else [2] * (scale.bit_length() - 1)


class Discriminator(nn.Module):
    """ESRGAN's discriminator: ten convolutions in the manner of VGG, 64 -> 512, two dense layers, one logit.

    The paper's loss makes it relativistic: it compares D(real) - mean D(fake) with D(fake) - mean D(real). Its dense
    layer fixes the input at 128×128. An adaptive average pool to ``pool``×``pool`` before that layer accepts any size,
    and with ``pool=4`` changes nothing for 128×128.

    Args:
        in_channels: colour channels of the image.
        channels: width of the first stage (64 in the paper).
        pool: side of the feature map that the first dense layer sees (4 in the paper).
    """

    def __init__(self, in_channels: int = 3, channels: int = 64, pool: int = 4) -> None:
        super().__init__()
        stages: list[nn.Module] = []
        width_in = in_channels
        for index in range(5):
            width = channels * min(2**index, 8)
            keep = nn.Conv2d(width_in, width, 3, padding=1, bias=index == 0)
            halve = nn.Conv2d(width, width, 4, stride=2, padding=1, bias=False)
            stages += [keep, *([nn.BatchNorm2d(width)] if index else []), nn.LeakyReLU(0.2)]
            stages += [halve, nn.BatchNorm2d(width), nn.LeakyReLU(0.2)]
            width_in = width
        self.features = nn.Sequential(*stages)
        self.pool = nn.AdaptiveAvgPool2d(pool)
        self.classifier = nn.Sequential(nn.Linear(width_in * pool * pool, 100), nn.LeakyReLU(0.2), nn.Linear(100, 1))

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) in [0, 1], sides of 32 and more -> (N, 1) logits; large means real."""
        result: Tensor = self.classifier(torch.flatten(self.pool(self.features(x)), 1))
        return result
