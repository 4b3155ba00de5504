"""ESRGAN: the RRDB generator and its discriminator (Wang et al., ECCVW 2018, arXiv:1809.00219).

Real-ESRGAN (Wang et al. 2021, arXiv:2107.10833) uses the same generator, for ×1 and ×2 with a pixel-unshuffled input.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from gankit.models import values
from gankit.models.checks import one_of, whole
from gankit.models.facts import Facts

Upsampler = Literal["nearest", "shuffle"]

_RESIDUAL = 0.2  # the paper's residual scaling
_SCALES = (1, 2, 3, 4, 8, 16)
_WIDEST, _DEEPEST = 4096, 1024  # beyond them a weights file is damaged


class DenseBlock(nn.Module):
    """Five 3×3 convolutions, each of which sees what all before it made, and the scaled skip around them."""

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
        return x + last(torch.cat(features, 1)) * _RESIDUAL


class RRDB(nn.Module):
    """The residual in residual dense block: three dense blocks and the scaled skip around them."""

    def __init__(self, channels: int, growth: int, slope: float) -> None:
        super().__init__()
        self.dense = nn.Sequential(*(DenseBlock(channels, growth, slope) for _ in range(3)))

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> the same shape."""
        return x + self.dense(x) * _RESIDUAL


class RRDBNet(nn.Module):
    """The generator of ESRGAN and Real-ESRGAN.

    Args:
        scale: 1, 2, 3, 4, 8 or 16.
        channels: width of the trunk (64 in the paper).
        growth: channels that a convolution of a dense block adds (32 in the paper).
        blocks: RRDBs (23 in the paper).
        in_channels: colour channels of input and output.
        unshuffle: the input is first folded by 1, 2 or 4 along both axes, and its sides must be multiples of that.
        upsampler: nearest-neighbour enlargement and a convolution as in the paper, or a sub-pixel convolution.
        slope: of every LeakyReLU below zero (0.2 in the paper).
        values_in: what the first convolution was trained on (see :func:`gankit.models.values.entrance`).

    The values are RGB in [0, 1] on both sides; the output is not clamped.
    """

    def __init__(
        self,
        scale: int = 4,
        channels: int = 64,
        growth: int = 32,
        blocks: int = 23,
        in_channels: int = 3,
        *,
        unshuffle: int = 1,
        upsampler: Upsampler = "nearest",
        slope: float = 0.2,
        values_in: values.Input = "unit",
    ) -> None:
        super().__init__()
        self.scale = scale
        self.entrance = values.entrance(values_in, in_channels)
        self.unshuffle = nn.PixelUnshuffle(unshuffle) if unshuffle > 1 else None
        self.head = nn.Conv2d(in_channels * unshuffle**2, channels, 3, padding=1)
        self.body = nn.Sequential(*(RRDB(channels, growth, slope) for _ in range(blocks)))
        self.neck = nn.Conv2d(channels, channels, 3, padding=1)
        enlarge = (upsample_block(channels, step, upsampler, slope) for step in steps(scale * unshuffle))
        self.upsampler = nn.Sequential(*enlarge)
        self.last = nn.Sequential(nn.Conv2d(channels, channels, 3, padding=1), nn.LeakyReLU(slope))
        self.tail = nn.Conv2d(channels, in_channels, 3, padding=1)
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
        return self.tail(self.last(self.upsampler(x)))


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
    """The enlargements one after the other: 3 at once, else by 2."""
    return [3] if scale == 3 else [2] * (scale.bit_length() - 1)


class Discriminator(nn.Module):
    """ESRGAN's discriminator: ten convolutions in the manner of VGG, 64 -> 512, two dense layers, one logit.

    The paper makes it relativistic in the loss: it judges D(real) - mean D(fake) and D(fake) - mean D(real). Its
    dense layer fixes the input at 128×128. An adaptive average pool to ``pool``×``pool`` before it lets any size in,
    and leaves the published layer for 128×128 with ``pool=4``.

    Args:
        in_channels: colour channels of the judged image.
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
        return self.classifier(torch.flatten(self.pool(self.features(x)), 1))


def facts(
    name: str = "esrgan",
    scale: int = 4,
    channels: int = 64,
    growth: int = 32,
    blocks: int = 23,
    in_channels: int = 3,
    *,
    unshuffle: int = 1,
    upsampler: Upsampler = "nearest",
    slope: float = 0.2,
    values_in: values.Input = "unit",
) -> Facts:
    """What a user of the generator must know before running it.

    Raises:
        ValueError: an option is one that no network of ours has.
    """
    if type(scale) is not int or scale not in _SCALES:
        raise ValueError(f"scale must be 1, 2, 3, 4, 8 or 16, not {scale!r}")
    if type(unshuffle) is not int or unshuffle not in (1, 2, 4) or (scale == 3 and unshuffle != 1):
        raise ValueError(f"unshuffle must be 1, 2 or 4, and 1 for scale 3, not {unshuffle!r}")
    for option, value in (("channels", channels), ("growth", growth), ("in_channels", in_channels)):
        whole(option, value, _WIDEST)
    whole("blocks", blocks, _DEEPEST)
    one_of("upsampler", upsampler, ("nearest", "shuffle"))
    check_slope(slope)
    values.check(values_in, "linear", in_channels)
    return Facts(
        name=name,
        paper="Wang et al. 2018, arXiv:1809.00219",
        task="upscale",
        scale=scale,
        channels=in_channels,
        value_range=(0.0, 1.0),
        multiple=unshuffle,
        norm="none",
        options={
            "scale": scale,
            "channels": channels,
            "growth": growth,
            "blocks": blocks,
            "in_channels": in_channels,
            "unshuffle": unshuffle,
            "upsampler": upsampler,
            "slope": slope,
            "values_in": values_in,
        },
    )


def check_slope(slope: object) -> None:
    """Require a LeakyReLU's slope below zero.

    Raises:
        ValueError: it is no number from 0 to 1.
    """
    if not isinstance(slope, (int, float)) or isinstance(slope, bool) or not 0 <= slope <= 1:
        raise ValueError(f"slope must be a number from 0 to 1, not {slope!r}")
