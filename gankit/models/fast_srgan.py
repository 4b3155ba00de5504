"""Fast-SRGAN: SRGAN's generator with small kernels and few blocks (Hasnain Raza, github.com/HasnainRaz/Fast-SRGAN).

After Ledig et al. 2017 (arXiv:1609.04802); the depthwise blocks of some of its versions are those of MobileNet (Howard
et al. 2017, arXiv:1704.04861).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from torch import Tensor, nn

from gankit.models.checks import Choice, Flag
from gankit.models.facts import Facts
from gankit.models.options import DEPTH, WIDTH, ModelOptions, option
from gankit.models.srgan import UpsampleBlock
from gankit.models.values import Unit, entrance

Kind = Literal["instance", "batch"]


@dataclass(frozen=True)
class FastSRGANOptions(ModelOptions):
    """Options of Fast-SRGAN's generator."""

    scale: int = option(4, Choice((2, 4, 8)), "Enlargement; the published one is 4")
    channels: int = option(64, WIDTH, "Width of the body")
    blocks: int = option(8, DEPTH, "Residual blocks")
    in_channels: int = option(3, WIDTH, "Colour channels of input and output")
    norm: Kind = option(
        "instance",
        Choice(get_args(Kind)),
        "Normalisation in and after the blocks: InstanceNorm without weights, or BatchNorm as some versions have",
    )
    depthwise: bool = option(
        False, Flag(), "Blocks of a depthwise and a 1×1 convolution, as some versions have, in place of two full ones"
    )

    def facts(self, name: str) -> Facts:
        """See the base class."""
        return Facts(
            name=name,
            paper="github.com/HasnainRaz/Fast-SRGAN, after Ledig et al. 2017, arXiv:1609.04802",
            task="upscale",
            scale=self.scale,
            channels=self.in_channels,
            value_range=(0.0, 1.0),
            tileable=self.norm != "instance",
            options=self.stored(),
        )


def _norm(kind: Kind, channels: int) -> nn.Module:
    return nn.InstanceNorm2d(channels) if kind == "instance" else nn.BatchNorm2d(channels)


class Block(nn.Module):
    """A convolution, a norm, PReLU, a convolution, a norm, and the skip around them; no biases.

    Args:
        channels: of the input and the output.
        norm: kind of both normalisations.
        depthwise: a 3×3 convolution of every channel by itself, then a 1×1 one; else two full 3×3 convolutions.
    """

    def __init__(self, channels: int, *, norm: Kind, depthwise: bool) -> None:
        super().__init__()
        groups, size = (channels, 1) if depthwise else (1, 3)
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1, groups=groups, bias=False)
        self.bn1 = _norm(norm, channels)
        self.act = nn.PReLU()
        self.conv2 = nn.Conv2d(channels, channels, size, padding=size // 2, bias=False)
        self.bn2 = _norm(norm, channels)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> the same shape."""
        y = self.act(self.bn1(self.conv1(x)))
        result: Tensor = x + self.bn2(self.conv2(y))
        return result


class FastSRGAN(nn.Module):
    """The generator.

    Args:
        options: ``None`` for the published ones.

    The values are RGB in [0, 1] on both sides; inside, the network works in [-1, 1] and ends in tanh.
    """

    Options = FastSRGANOptions

    def __init__(self, options: FastSRGANOptions | None = None) -> None:
        super().__init__()
        o = options or FastSRGANOptions()
        self.scale = o.scale
        self.entrance = entrance("signed", o.in_channels)
        self.head = nn.Sequential(nn.Conv2d(o.in_channels, o.channels, 3, padding=1), nn.PReLU())
        self.body = nn.Sequential(*(Block(o.channels, norm=o.norm, depthwise=o.depthwise) for _ in range(o.blocks)))
        conv = nn.Conv2d(o.channels, o.channels, 3, padding=1, bias=False)
        self.neck = nn.Sequential(conv, _norm(o.norm, o.channels))
        self.upsampler = nn.Sequential(*(UpsampleBlock(o.channels) for _ in range(o.scale.bit_length() - 1)))
        self.tail = nn.Conv2d(o.channels, o.in_channels, 3, padding=1)
        self.exit = Unit()

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) floating point, RGB in [0, 1] -> (N, C, scale·H, scale·W) in [0, 1]."""
        assert self.entrance is not None
        x = self.head(self.entrance(x))
        x = x + self.neck(self.body(x))
        result: Tensor = self.exit(self.tail(self.upsampler(x)))
        return result
