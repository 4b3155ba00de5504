"""The SRResNets without BatchNorm that ESRGAN's authors compare with (Wang et al. 2018, arXiv:1809.00219).

``MSRResNet`` is the network of BasicSR and mmagic, and KAIR's MSRResNet1; ``MSRResNet0`` is KAIR's older one. Trained
with an adversarial loss, they are the SRGAN of these projects.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from gankit.models.checks import Choice, Flag
from gankit.models.esrgan import SLOPE, UPSAMPLER, Upsampler, steps, upsample_block
from gankit.models.facts import Facts
from gankit.models.options import DEPTH, WIDTH, ModelOptions, option


@dataclass(frozen=True)
class _CommonOptions(ModelOptions):
    """Options of both networks."""

    scale: int = option(4, Choice((2, 3, 4, 8)), "Enlargement")
    channels: int = option(64, WIDTH, "Width of the body")
    blocks: int = option(16, DEPTH, "Residual blocks")
    in_channels: int = option(3, WIDTH, "Colour channels of input and output")

    def facts(self, name: str) -> Facts:
        """See the base class."""
        return Facts(
            name=name,
            paper="Wang et al. 2018, arXiv:1809.00219, after Ledig et al. 2017, arXiv:1609.04802",
            task="upscale",
            scale=self.scale,
            channels=self.in_channels,
            value_range=(0.0, 1.0),
            tileable=True,
            options=self.stored(),
        )


@dataclass(frozen=True)
class MSRResNetOptions(_CommonOptions):
    """Options of BasicSR's, mmagic's and KAIR's MSRResNet."""

    activated: bool = option(True, Flag(), "LeakyReLU 0.1 after every PixelShuffle (BasicSR, KAIR), or none (mmagic)")


@dataclass(frozen=True)
class MSRResNet0Options(_CommonOptions):
    """Options of KAIR's MSRResNet0."""

    upsampler: Upsampler = option(
        "nearest", UPSAMPLER, "Nearest-neighbour enlargement and a convolution, or a sub-pixel convolution"
    )
    slope: float = option(0.0, SLOPE, "Slope of every activation below zero; 0 for ReLU")


class ResidualBlock(nn.Module):
    """Conv3x3, activation, Conv3x3, and the skip around them."""

    def __init__(self, channels: int, slope: float = 0.0) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.act = nn.LeakyReLU(slope) if slope else nn.ReLU()
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> the same shape."""
        result: Tensor = x + self.conv2(self.act(self.conv1(x)))
        return result


class MSRResNet(nn.Module):
    """Residual blocks, sub-pixel convolutions, and the bilinearly enlarged input added to the result.

    Args:
        options: ``None`` for BasicSR's.

    The values are RGB in [0, 1] on both sides; the output is not clamped.
    """

    Options = MSRResNetOptions

    def __init__(self, options: MSRResNetOptions | None = None) -> None:
        super().__init__()
        o = options or MSRResNetOptions()
        self.scale = o.scale
        self.head = nn.Sequential(nn.Conv2d(o.in_channels, o.channels, 3, padding=1), nn.LeakyReLU(0.1))
        self.body = nn.Sequential(*(ResidualBlock(o.channels) for _ in range(o.blocks)))
        enlarge = [upsample_block(o.channels, step, "shuffle", 0.1) for step in steps(o.scale)]
        self.upsampler = nn.Sequential(*(block if o.activated else block[:2] for block in enlarge))
        self.last = nn.Sequential(nn.Conv2d(o.channels, o.channels, 3, padding=1), nn.LeakyReLU(0.1))
        self.tail = nn.Conv2d(o.channels, o.in_channels, 3, padding=1)
        self.base = nn.Upsample(scale_factor=o.scale, mode="bilinear", align_corners=False)

    def forward(self, x: Tensor) -> Tensor:
        """Upscale a batch.

        Args:
            x: (N, C, H, W) floating point, RGB in [0, 1]; any H and W.

        Returns:
            (N, C, scale·H, scale·W), nominally in [0, 1], not clamped.
        """
        result: Tensor = self.tail(self.last(self.upsampler(self.body(self.head(x))))) + self.base(x)
        return result


class MSRResNet0(nn.Module):
    """Residual blocks with a skip around all of them, enlargement, two convolutions; nothing is added at the end.

    Args:
        options: ``None`` for KAIR's.

    The values are RGB in [0, 1] on both sides; the output is not clamped.
    """

    Options = MSRResNet0Options

    def __init__(self, options: MSRResNet0Options | None = None) -> None:
        super().__init__()
        o = options or MSRResNet0Options()
        self.scale = o.scale
        self.head = nn.Conv2d(o.in_channels, o.channels, 3, padding=1)
        self.body = nn.Sequential(*(ResidualBlock(o.channels, o.slope) for _ in range(o.blocks)))
        self.neck = nn.Conv2d(o.channels, o.channels, 3, padding=1)
        enlarge = (upsample_block(o.channels, step, o.upsampler, o.slope) for step in steps(o.scale))
        self.upsampler = nn.Sequential(*enlarge)
        act = nn.LeakyReLU(o.slope) if o.slope else nn.ReLU()
        self.last = nn.Sequential(nn.Conv2d(o.channels, o.channels, 3, padding=1), act)
        self.tail = nn.Conv2d(o.channels, o.in_channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) in [0, 1] -> (N, C, scale·H, scale·W), nominally in [0, 1], not clamped."""
        x = self.head(x)
        x = x + self.neck(self.body(x))
        result: Tensor = self.tail(self.last(self.upsampler(x)))
        return result
