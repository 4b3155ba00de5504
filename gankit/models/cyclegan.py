"""CycleGAN's generator (Zhu et al., ICCV 2017, arXiv:1703.10593) and its variants in CUT and GAN Compression.

The names of the weights are those of junyanz/pytorch-CycleGAN-and-pix2pix. The anti-aliased variant is CUT's (Park et
al., ECCV 2020, arXiv:2007.15651); the separable one with free widths is GAN Compression's (Li et al., CVPR 2020,
arXiv:2003.08936). The discriminator is in ``gankit.models.patchgan``.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from gankit.models import norms
from gankit.models.antialias import Downsample, Upsample
from gankit.models.checks import Flag, Number, Optional, Several
from gankit.models.facts import AtTest, Facts
from gankit.models.norms import Kind
from gankit.models.options import DEPTH, WIDTH, ModelOptions, option

_LEAST = 8  # a quarter of it must be more than the blocks' reflected border


@dataclass(frozen=True)
class ResNetGeneratorOptions(ModelOptions):
    """Options of CycleGAN's generator and its kin."""

    channels: int = option(64, WIDTH, "Width of the first stage; the trunk has four times as many")
    blocks: int = option(9, DEPTH, "Residual blocks; the paper has 9 for 256×256 and larger, 6 for 128×128")
    in_channels: int = option(3, WIDTH, "Colour channels of the input")
    out_channels: int = option(3, WIDTH, "Colour channels of the output")
    norm: Kind = option("instance", norms.KIND, "Normalisation; convolutions before a BatchNorm have no bias")
    norm_at_test: AtTest = option(
        "eval", norms.AT_TEST, "Statistics that a BatchNorm uses: the image's own, or the running ones"
    )
    dropout: float | None = option(
        None, Optional(Number(0, 1, below=True)), "Rate of the dropout in every block; none for no such layer"
    )
    antialias: bool = option(False, Flag(), "Blurred subsampling in place of strides, as in CUT")
    antialias_up: bool = option(
        False, Flag(), "Blurred upsampling and a convolution in place of transposed convolutions, as in CUT"
    )
    separable: bool = option(
        False, Flag(), "Separable convolutions in the blocks, as in GAN Compression; norm must be 'instance'"
    )
    widths: tuple[int, ...] | None = option(
        None,
        Optional(Several(WIDTH, DEPTH.most + 5)),
        "Widths of all stages: the three downward, the inside of every block, the two upward; none for the paper's",
    )
    clamp: bool = option(
        False, Flag(), "Limit the input to [-1, 1] first, as GAN Compression does; no image leaves that range"
    )

    def check(self) -> None:
        """The separable blocks have InstanceNorms inside, and every stage has one width."""
        if self.separable and self.norm != "instance":
            raise ValueError(f"separable must be false for norm {self.norm!r}, or norm 'instance'")
        if self.widths is not None and len(self.widths) != self.blocks + 5:
            wanted = f"{self.blocks + 5} numbers for {self.blocks} blocks"
            raise ValueError(f"widths must be {wanted}, not {len(self.widths)}")

    def facts(self, name: str) -> Facts:
        """See the base class; an output pixel depends on hundreds of input pixels, or on all of them."""
        return Facts(
            name=name,
            paper="Zhu et al. 2017, arXiv:1703.10593",
            task="translate",
            channels=self.in_channels,
            out_channels=self.out_channels,
            value_range=(-1.0, 1.0),
            multiple=4,
            minimum=_LEAST,
            tileable=False,
            options=self.stored(),
        )


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
        result: Tensor = self.conv(x)
        return result


class ResNetBlock(nn.Module):
    """Two reflect-padded 3×3 convolutions with norms, ReLU and dropout between them, and the skip around them.

    Args:
        width: channels of the input and the output.
        inner: channels between the convolutions.
        conv: function of (in, out, kernel size) that makes a convolution without padding.
        norm: function of the channels that makes a normalisation.
        dropout: rate of the layer between the halves; ``None`` for no layer, which changes the names of those after it.
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
        result: Tensor = x + self.conv_block(x)
        return result


class ResNetGenerator(nn.Module):
    """Two strided convolutions, residual blocks, two transposed convolutions, tanh.

    Args:
        options: ``None`` for the paper's.

    The sides of the input must be multiples of 4, and at least 8.
    """

    Options = ResNetGeneratorOptions

    def __init__(self, options: ResNetGeneratorOptions | None = None) -> None:
        super().__init__()
        o = options or ResNetGeneratorOptions()
        self.clamp = o.clamp
        make_norm = norms.layer(o.norm, o.norm_at_test)
        biased = o.norm == "instance"
        conv = functools.partial(nn.Conv2d, bias=biased)
        widths: Sequence[int] = o.widths or default_widths(o.channels, o.blocks)
        first, half, trunk, *inner, up_half, up_full = widths

        layers: list[nn.Module] = [nn.ReflectionPad2d(3), conv(o.in_channels, first, 7)]
        layers += [make_norm(first), nn.ReLU(inplace=True)]
        for width_in, width in ((first, half), (half, trunk)):
            layers += [conv(width_in, width, 3, stride=1 if o.antialias else 2, padding=1)]
            layers += [make_norm(width), nn.ReLU(inplace=True)]
            layers += [Downsample(width)] if o.antialias else []
        block_conv = SeparableConv if o.separable else conv
        layers += [ResNetBlock(trunk, width, block_conv, make_norm, o.dropout) for width in inner]
        for width_in, width in ((trunk, up_half), (up_half, up_full)):
            if o.antialias_up:
                layers += [Upsample(width_in), conv(width_in, width, 3, padding=1)]
            else:
                layers += [nn.ConvTranspose2d(width_in, width, 3, stride=2, padding=1, output_padding=1, bias=biased)]
            layers += [make_norm(width), nn.ReLU(inplace=True)]
        layers += [nn.ReflectionPad2d(3), nn.Conv2d(up_full, o.out_channels, 7), nn.Tanh()]
        self.model = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """Translate a batch.

        Args:
            x: (N, C, H, W) floating point, RGB in [-1, 1]; H and W multiples of 4.

        Returns:
            (N, C', H, W) in [-1, 1].
        """
        result: Tensor = self.model(x.clamp(-1, 1) if self.clamp else x)
        return result


def default_widths(channels: int, blocks: int) -> list[int]:
    """The paper's widths of all stages, in the order of the option ``widths``."""
    return [channels, 2 * channels, *[4 * channels] * (1 + blocks), 2 * channels, channels]
