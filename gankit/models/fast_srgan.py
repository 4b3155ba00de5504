"""Fast-SRGAN: SRGAN's generator with small kernels and few blocks (Hasnain Raza, github.com/HasnainRaz/Fast-SRGAN).

After Ledig et al. 2017 (arXiv:1609.04802); the depthwise blocks of some of its versions are those of MobileNet (Howard
et al. 2017, arXiv:1704.04861).
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from gankit.models.checks import flag, one_of, whole
from gankit.models.facts import Facts
from gankit.models.srgan import UpsampleBlock
from gankit.models.values import Unit, entrance

Kind = Literal["instance", "batch"]

_SCALES = (2, 4, 8)
_WIDEST, _DEEPEST = 4096, 1024  # beyond them a weights file is damaged


def _norm(kind: Kind, channels: int) -> nn.Module:
    return nn.InstanceNorm2d(channels) if kind == "instance" else nn.BatchNorm2d(channels)


class Block(nn.Module):
    """A convolution, norm, PReLU, a convolution, norm, and the skip around them; no biases.

    Args:
        channels: in and out.
        norm: of both convolutions' results.
        depthwise: 3×3 of every channel by itself, then 1×1; else both are full 3×3 convolutions.
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
        return x + self.bn2(self.conv2(y))


class FastSRGAN(nn.Module):
    """The generator.

    Args:
        scale: 2, 4 or 8 (published: 4).
        channels: width of the body (64).
        blocks: residual blocks (8).
        in_channels: colour channels of input and output.
        norm: in the blocks and behind them: InstanceNorm without weights, or BatchNorm as some versions have.
        depthwise: blocks of a depthwise and a 1×1 convolution, as some versions have.

    The values are RGB in [0, 1] on both sides; inside, the network works in [-1, 1] and ends in tanh.
    """

    def __init__(
        self,
        scale: int = 4,
        channels: int = 64,
        blocks: int = 8,
        in_channels: int = 3,
        *,
        norm: Kind = "instance",
        depthwise: bool = False,
    ) -> None:
        super().__init__()
        self.scale = scale
        self.entrance = entrance("signed", in_channels)
        self.head = nn.Sequential(nn.Conv2d(in_channels, channels, 3, padding=1), nn.PReLU())
        self.body = nn.Sequential(*(Block(channels, norm=norm, depthwise=depthwise) for _ in range(blocks)))
        conv = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.neck = nn.Sequential(conv, _norm(norm, channels))
        self.upsampler = nn.Sequential(*(UpsampleBlock(channels) for _ in range(scale.bit_length() - 1)))
        self.tail = nn.Conv2d(channels, in_channels, 3, padding=1)
        self.exit = Unit()

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) floating point, RGB in [0, 1] -> (N, C, scale·H, scale·W) in [0, 1]."""
        assert self.entrance is not None
        x = self.head(self.entrance(x))
        x = x + self.neck(self.body(x))
        return self.exit(self.tail(self.upsampler(x)))


def facts(
    name: str = "fast_srgan",
    scale: int = 4,
    channels: int = 64,
    blocks: int = 8,
    in_channels: int = 3,
    *,
    norm: Kind = "instance",
    depthwise: bool = False,
) -> Facts:
    """What a user of the generator must know before running it.

    Raises:
        ValueError: an option is one that no network of ours has.
    """
    if type(scale) is not int or scale not in _SCALES:
        raise ValueError(f"scale must be 2, 4 or 8, not {scale!r}")
    whole("channels", channels, _WIDEST)
    whole("blocks", blocks, _DEEPEST)
    whole("in_channels", in_channels, _WIDEST)
    one_of("norm", norm, ("instance", "batch"))
    flag("depthwise", depthwise)
    return Facts(
        name=name,
        paper="github.com/HasnainRaz/Fast-SRGAN, after Ledig et al. 2017, arXiv:1609.04802",
        task="upscale",
        scale=scale,
        channels=in_channels,
        value_range=(0.0, 1.0),
        multiple=1,
        norm=norm,
        options={
            "scale": scale,
            "channels": channels,
            "blocks": blocks,
            "in_channels": in_channels,
            "norm": norm,
            "depthwise": depthwise,
        },
    )
