"""The SRResNets without BatchNorm that ESRGAN's authors compare with (Wang et al. 2018, arXiv:1809.00219).

``MSRResNet`` is the one of BasicSR, mmagic and KAIR's MSRResNet1; ``MSRResNet0`` is KAIR's older one. Trained with an
adversarial loss they are those projects' SRGAN.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from gankit.models.checks import flag, one_of, whole
from gankit.models.esrgan import Upsampler, check_slope, steps, upsample_block
from gankit.models.facts import Facts

_SCALES = (2, 3, 4, 8)
_WIDEST, _DEEPEST = 4096, 1024  # beyond them a weights file is damaged


class ResidualBlock(nn.Module):
    """Conv3x3, activation, Conv3x3, and the skip around them."""

    def __init__(self, channels: int, slope: float = 0.0) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.act = nn.LeakyReLU(slope) if slope else nn.ReLU()
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> the same shape."""
        return x + self.conv2(self.act(self.conv1(x)))


class MSRResNet(nn.Module):
    """Residual blocks, sub-pixel convolutions, and the bilinearly enlarged input added to the result.

    Args:
        scale: 2, 3, 4 or 8.
        channels: width of the body (64).
        blocks: residual blocks (16).
        in_channels: colour channels of input and output.
        activated: LeakyReLU 0.1 after every PixelShuffle (BasicSR, KAIR), or none (mmagic).

    The values are RGB in [0, 1] on both sides; the output is not clamped.
    """

    def __init__(
        self, scale: int = 4, channels: int = 64, blocks: int = 16, in_channels: int = 3, *, activated: bool = True
    ) -> None:
        super().__init__()
        self.scale = scale
        self.head = nn.Sequential(nn.Conv2d(in_channels, channels, 3, padding=1), nn.LeakyReLU(0.1))
        self.body = nn.Sequential(*(ResidualBlock(channels) for _ in range(blocks)))
        enlarge = [upsample_block(channels, step, "shuffle", 0.1) for step in steps(scale)]
        self.upsampler = nn.Sequential(*(block if activated else block[:2] for block in enlarge))
        self.last = nn.Sequential(nn.Conv2d(channels, channels, 3, padding=1), nn.LeakyReLU(0.1))
        self.tail = nn.Conv2d(channels, in_channels, 3, padding=1)
        self.base = nn.Upsample(scale_factor=scale, mode="bilinear", align_corners=False)

    def forward(self, x: Tensor) -> Tensor:
        """Upscale a batch.

        Args:
            x: (N, C, H, W) floating point, RGB in [0, 1]; any H and W.

        Returns:
            (N, C, scale·H, scale·W), nominally in [0, 1], not clamped.
        """
        return self.tail(self.last(self.upsampler(self.body(self.head(x))))) + self.base(x)


class MSRResNet0(nn.Module):
    """Residual blocks with a skip around all of them, enlargement, two convolutions; nothing is added at the end.

    Args:
        scale: 2, 3, 4 or 8.
        channels: width of the body (64).
        blocks: residual blocks (16).
        in_channels: colour channels of input and output.
        upsampler: nearest-neighbour enlargement and a convolution, or a sub-pixel convolution.
        slope: of every activation below zero; 0 for ReLU.

    The values are RGB in [0, 1] on both sides; the output is not clamped.
    """

    def __init__(
        self,
        scale: int = 4,
        channels: int = 64,
        blocks: int = 16,
        in_channels: int = 3,
        *,
        upsampler: Upsampler = "nearest",
        slope: float = 0.0,
    ) -> None:
        super().__init__()
        self.scale = scale
        self.head = nn.Conv2d(in_channels, channels, 3, padding=1)
        self.body = nn.Sequential(*(ResidualBlock(channels, slope) for _ in range(blocks)))
        self.neck = nn.Conv2d(channels, channels, 3, padding=1)
        enlarge = (upsample_block(channels, step, upsampler, slope) for step in steps(scale))
        self.upsampler = nn.Sequential(*enlarge)
        act = nn.LeakyReLU(slope) if slope else nn.ReLU()
        self.last = nn.Sequential(nn.Conv2d(channels, channels, 3, padding=1), act)
        self.tail = nn.Conv2d(channels, in_channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) in [0, 1] -> (N, C, scale·H, scale·W), nominally in [0, 1], not clamped."""
        x = self.head(x)
        x = x + self.neck(self.body(x))
        return self.tail(self.last(self.upsampler(x)))


def facts(
    name: str = "msrresnet",
    scale: int = 4,
    channels: int = 64,
    blocks: int = 16,
    in_channels: int = 3,
    **options: Any,
) -> Facts:
    """What a user of the generator must know before running it.

    Args:
        name: ``"msrresnet"``, or ``"msrresnet0"``.
        scale: see the classes.
        channels: likewise.
        blocks: likewise.
        in_channels: likewise.
        options: ``activated`` of the former; ``upsampler`` and ``slope`` of the latter.

    Raises:
        TypeError: an option is not known.
        ValueError: an option is one that no network of ours has.
    """
    own: dict[str, Any] = {"upsampler": "nearest", "slope": 0.0} if name == "msrresnet0" else {"activated": True}
    unknown = set(options) - set(own)
    if unknown:
        raise TypeError(f"'{name}' has no option {', '.join(sorted(unknown))}")
    own |= options
    if type(scale) is not int or scale not in _SCALES:
        raise ValueError(f"scale must be 2, 3, 4 or 8, not {scale!r}")
    whole("channels", channels, _WIDEST)
    whole("blocks", blocks, _DEEPEST)
    whole("in_channels", in_channels, _WIDEST)
    if name == "msrresnet0":
        one_of("upsampler", own["upsampler"], ("nearest", "shuffle"))
        check_slope(own["slope"])
    else:
        flag("activated", own["activated"])
    return Facts(
        name=name,
        paper="Wang et al. 2018, arXiv:1809.00219, after Ledig et al. 2017, arXiv:1609.04802",
        task="upscale",
        scale=scale,
        channels=in_channels,
        value_range=(0.0, 1.0),
        multiple=1,
        norm="none",
        options={"scale": scale, "channels": channels, "blocks": blocks, "in_channels": in_channels, **own},
    )
