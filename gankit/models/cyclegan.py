"""CycleGAN's generator (Zhu et al., ICCV 2017, arXiv:1703.10593) and what CUT and GAN Compression made of it.

The names of the weights are those of junyanz/pytorch-CycleGAN-and-pix2pix. The anti-aliased variant is CUT's (Park et
al., ECCV 2020, arXiv:2007.15651); the separable one with free widths is GAN Compression's (Li et al., CVPR 2020,
arXiv:2003.08936). The discriminator is in ``gankit.models.patchgan``.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

from torch import Tensor, nn

from gankit.models import norms
from gankit.models.antialias import Downsample, Upsample
from gankit.models.checks import flag, whole
from gankit.models.facts import Facts
from gankit.models.norms import AtTest, Kind

_WIDEST, _DEEPEST = 4096, 1024  # beyond them a weights file is damaged
_LEAST = 8  # a quarter of it must be more than the blocks' reflected border


class SeparableConv(nn.Module):
    """A 3×3 convolution of every channel by itself, InstanceNorm, and a 1×1 convolution (GAN Compression)."""

    def __init__(self, width_in: int, width_out: int, kernel_size: int) -> None:
        super().__init__()
        self.conv = nn.Sequential(
            nn.Conv2d(width_in, width_in, kernel_size, groups=width_in),
            nn.InstanceNorm2d(width_in),
            nn.Conv2d(width_in, width_out, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H + 2, W + 2) -> (N, C', H, W)."""
        return self.conv(x)


class ResNetBlock(nn.Module):
    """Two reflect-padded 3×3 convolutions with norms, ReLU and dropout between them, and the skip around them.

    Args:
        width: channels in and out.
        inner: channels between the convolutions.
        conv: makes a convolution of (in, out, kernel size) without padding.
        norm: makes a normalisation of so many channels.
        dropout: rate of the layer between the halves; ``None`` for no layer, which moves the names behind it.
    """

    def __init__(
        self,
        width: int,
        inner: int,
        conv: Callable[[int, int, int], nn.Module],
        norm: Callable[[int], nn.Module],
        dropout: float | None,
    ) -> None:
        super().__init__()
        self.conv_block = nn.Sequential(
            nn.ReflectionPad2d(1),
            conv(width, inner, 3),
            norm(inner),
            nn.ReLU(inplace=True),
            *([] if dropout is None else [nn.Dropout(dropout)]),
            nn.ReflectionPad2d(1),
            conv(inner, width, 3),
            norm(width),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> the same shape; no activation after the sum."""
        return x + self.conv_block(x)


class ResNetGenerator(nn.Module):
    """Two strided convolutions, residual blocks, two transposed convolutions, tanh.

    Args:
        channels: width of the first stage (64 in the paper); the trunk has four times as many.
        blocks: residual blocks (9 in the paper for 256×256 and larger, 6 for 128×128).
        in_channels: of the input image.
        out_channels: of the output image.
        norm: ``"instance"`` as in the paper, or ``"batch"``; convolutions before a BatchNorm have no bias.
        norm_at_test: what ``"batch"`` normalises with (see :func:`gankit.models.norms.layer`).
        dropout: rate of the dropout in every block; ``None`` for no such layer.
        antialias: CUT's: blurred subsampling in place of strides.
        antialias_up: CUT's: blurred upsampling and a convolution in place of transposed convolutions.
        separable: GAN Compression's: separable convolutions in the blocks; with ``norm="instance"`` only.
        widths: of every stage: the three downward, the inside of every block, the two upward; ``None`` for the paper's.
        clamp: limit the input to [-1, 1] first, as GAN Compression does. No image leaves that range.

    The sides of the input must be multiples of 4, and at least 8.
    """

    def __init__(
        self,
        channels: int = 64,
        blocks: int = 9,
        in_channels: int = 3,
        out_channels: int = 3,
        *,
        norm: Kind = "instance",
        norm_at_test: AtTest = "eval",
        dropout: float | None = None,
        antialias: bool = False,
        antialias_up: bool = False,
        separable: bool = False,
        widths: Sequence[int] | None = None,
        clamp: bool = False,
    ) -> None:
        super().__init__()
        self.clamp = clamp
        make_norm = norms.layer(norm, norm_at_test)
        biased = norm == "instance"
        conv = functools.partial(nn.Conv2d, bias=biased)
        first, half, trunk, *inner, up_half, up_full = widths or default_widths(channels, blocks)

        layers: list[nn.Module] = [nn.ReflectionPad2d(3), conv(in_channels, first, 7)]
        layers += [make_norm(first), nn.ReLU(inplace=True)]
        for width_in, width in ((first, half), (half, trunk)):
            layers += [conv(width_in, width, 3, stride=1 if antialias else 2, padding=1)]
            layers += [make_norm(width), nn.ReLU(inplace=True)]
            layers += [Downsample(width)] if antialias else []
        block_conv = SeparableConv if separable else conv
        layers += [ResNetBlock(trunk, width, block_conv, make_norm, dropout) for width in inner]
        for width_in, width in ((trunk, up_half), (up_half, up_full)):
            if antialias_up:
                layers += [Upsample(width_in), conv(width_in, width, 3, padding=1)]
            else:
                layers += [nn.ConvTranspose2d(width_in, width, 3, stride=2, padding=1, output_padding=1, bias=biased)]
            layers += [make_norm(width), nn.ReLU(inplace=True)]
        layers += [nn.ReflectionPad2d(3), nn.Conv2d(up_full, out_channels, 7), nn.Tanh()]
        self.model = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """Translate a batch.

        Args:
            x: (N, C, H, W) floating point, RGB in [-1, 1]; H and W multiples of 4.

        Returns:
            (N, C', H, W) in [-1, 1].
        """
        return self.model(x.clamp(-1, 1) if self.clamp else x)


def default_widths(channels: int, blocks: int) -> list[int]:
    """The paper's widths, in the order of ``ResNetGenerator``'s argument."""
    return [channels, 2 * channels, *[4 * channels] * (1 + blocks), 2 * channels, channels]


def facts(
    name: str = "cyclegan",
    channels: int = 64,
    blocks: int = 9,
    in_channels: int = 3,
    out_channels: int = 3,
    *,
    norm: Kind = "instance",
    norm_at_test: AtTest = "eval",
    dropout: float | None = None,
    antialias: bool = False,
    antialias_up: bool = False,
    separable: bool = False,
    widths: Sequence[int] | None = None,
    clamp: bool = False,
) -> Facts:
    """What a user of the generator must know before running it.

    Raises:
        ValueError: an option is one that no network of ours has.
    """
    for option, size in (("channels", channels), ("in_channels", in_channels), ("out_channels", out_channels)):
        whole(option, size, _WIDEST)
    whole("blocks", blocks, _DEEPEST)
    norms.check(norm, norm_at_test)
    if dropout is not None and not (isinstance(dropout, (int, float)) and 0 <= dropout < 1):
        raise ValueError(f"dropout must be none or a number from 0 to 1, not {dropout!r}")
    flags = {"antialias": antialias, "antialias_up": antialias_up, "separable": separable, "clamp": clamp}
    for option, value in flags.items():
        flag(option, value)
    if separable and norm != "instance":
        raise ValueError("separable needs norm 'instance'")
    if widths is not None:
        if len(widths) != blocks + 5:
            raise ValueError(f"widths must be {blocks + 5} numbers for {blocks} blocks, not {len(widths)}")
        for width in widths:
            whole("widths", width, _WIDEST)
    return Facts(
        name=name,
        paper="Zhu et al. 2017, arXiv:1703.10593",
        task="translate",
        scale=1,
        channels=in_channels,
        value_range=(-1.0, 1.0),
        multiple=4,
        norm=norms.fact(norm, norm_at_test),
        options={
            "channels": channels,
            "blocks": blocks,
            "in_channels": in_channels,
            "out_channels": out_channels,
            "norm": norm,
            "norm_at_test": norm_at_test,
            "dropout": dropout,
            **flags,
            "widths": None if widths is None else list(widths),
        },
        out_channels=out_channels,
        minimum=_LEAST,
    )
