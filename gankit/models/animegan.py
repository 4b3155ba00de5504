"""AnimeGANv2's generator and discriminator (Chen et al.), with the names of the weights of bryandlee/animegan2-pytorch.

Version 2 has no paper; version 1 is Chen, Liu and Chen, ISICA 2019 (AnimeGAN: a novel lightweight GAN for photo
animation). Version 2 normalises every layer over all channels and pixels, by GroupNorm with one group.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from gankit.models.checks import Flag
from gankit.models.facts import Facts
from gankit.models.options import DEPTH, WIDTH, ModelOptions, option

_LEAST = 8  # a quarter of it must be more than the blocks' reflected border
_SHRINK = (0, 1, 0, 1)  # left, right, top, bottom: with stride 2, exactly half of even sides


@dataclass(frozen=True)
class AnimeGeneratorOptions(ModelOptions):
    """Options of AnimeGANv2's generator."""

    channels: int = option(32, WIDTH, "Width of the first layer")
    blocks: int = option(4, DEPTH, "Inverted residual blocks")
    in_channels: int = option(3, WIDTH, "Colour channels of the input")
    out_channels: int = option(3, WIDTH, "Colour channels of the output")
    align_corners: bool = option(
        True,
        Flag(),
        "How the bilinear upsampling places its pixels. No weights file records it, and the two give different images: "
        "the published hubconf.py has true, the published test.py false",
    )

    def facts(self, name: str) -> Facts:
        """See the base class; GroupNorm with one group computes statistics over the whole image."""
        return Facts(
            name=name,
            paper="Chen et al. 2020, AnimeGANv2",
            task="translate",
            channels=self.in_channels,
            out_channels=self.out_channels,
            value_range=(-1.0, 1.0),
            multiple=4,
            minimum=_LEAST,
            tileable=False,
            options=self.stored(),
        )


class ConvNormLReLU(nn.Sequential):
    """Reflect padding, convolution, GroupNorm with one group, LeakyReLU 0.2."""

    def __init__(
        self,
        width_in: int,
        width: int,
        kernel_size: int = 3,
        stride: int = 1,
        padding: int | tuple[int, int, int, int] | None = None,
        *,
        depthwise: bool = False,
    ) -> None:
        super().__init__(
            nn.ReflectionPad2d(kernel_size // 2 if padding is None else padding),
            nn.Conv2d(width_in, width, kernel_size, stride, groups=width_in if depthwise else 1, bias=depthwise),
            nn.GroupNorm(1, width),
            nn.LeakyReLU(0.2, inplace=True),
        )


class InvertedResBlock(nn.Module):
    """1×1 convolution to twice the width, depthwise 3×3, 1×1 back; a skip where the width stays."""

    def __init__(self, width_in: int, width: int) -> None:
        super().__init__()
        self.skip = width_in == width
        self.layers = nn.Sequential(
            ConvNormLReLU(width_in, 2 * width_in, 1),
            ConvNormLReLU(2 * width_in, 2 * width_in, depthwise=True),
            nn.Conv2d(2 * width_in, width, 1, bias=False),
            nn.GroupNorm(1, width),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C', H, W)."""
        result: Tensor = x + self.layers(x) if self.skip else self.layers(x)
        return result


class AnimeGenerator(nn.Module):
    """Two strided stages, inverted residual blocks, two bilinear upsamplings, tanh.

    Args:
        options: ``None`` for the published ones.

    The sides of the input must be multiples of 4, and at least 8.
    """

    Options = AnimeGeneratorOptions

    def __init__(self, options: AnimeGeneratorOptions | None = None) -> None:
        super().__init__()
        o = options or AnimeGeneratorOptions()
        width, half, full, trunk = o.channels, 2 * o.channels, 4 * o.channels, 8 * o.channels
        self.block_a = nn.Sequential(
            ConvNormLReLU(o.in_channels, width, 7),
            ConvNormLReLU(width, half, stride=2, padding=_SHRINK),
            ConvNormLReLU(half, half),
        )
        self.block_b = nn.Sequential(
            ConvNormLReLU(half, full, stride=2, padding=_SHRINK),
            ConvNormLReLU(full, full),
        )
        self.block_c = nn.Sequential(
            ConvNormLReLU(full, full),
            *(InvertedResBlock(trunk if index else full, trunk) for index in range(o.blocks)),
            ConvNormLReLU(trunk, full),
        )
        self.block_d = nn.Sequential(ConvNormLReLU(full, full), ConvNormLReLU(full, full))
        self.block_e = nn.Sequential(
            ConvNormLReLU(full, half),
            ConvNormLReLU(half, half),
            ConvNormLReLU(half, width, 7),
        )
        self.out_layer = nn.Sequential(nn.Conv2d(width, o.out_channels, 1, bias=False), nn.Tanh())
        # The published code interpolates to the encoder's size: with sides that are multiples of 4, twice the size.
        self.upsample = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=o.align_corners)

    def forward(self, x: Tensor) -> Tensor:
        """Translate a batch.

        Args:
            x: (N, C, H, W) floating point, RGB in [-1, 1]; H and W multiples of 4.

        Returns:
            (N, C', H, W) in [-1, 1].
        """
        x = self.block_c(self.block_b(self.block_a(x)))
        x = self.block_d(self.upsample(x))
        result: Tensor = self.out_layer(self.block_e(self.upsample(x)))
        return result


class AnimeDiscriminator(nn.Module):
    """3×3 convolutions, two of them strided, spectral norm in all; one logit for every 4×4 pixels.

    Chen et al. 2019, Fig. 3, with version 2's norm over all channels and pixels in place of InstanceNorm.

    Args:
        in_channels: colour channels of the image.
        channels: width of the first stage (32 in the paper).
    """

    def __init__(self, in_channels: int = 3, channels: int = 32) -> None:
        super().__init__()
        self.model = nn.Sequential(
            *_judging(in_channels, channels, norm=False),
            *_judging(channels, 2 * channels, stride=2, norm=False),
            *_judging(2 * channels, 4 * channels),
            *_judging(4 * channels, 4 * channels, stride=2, norm=False),
            *_judging(4 * channels, 8 * channels),
            *_judging(8 * channels, 8 * channels),
            spectral_norm(nn.Conv2d(8 * channels, 1, 3, padding=1, bias=False)),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) in [-1, 1] -> (N, 1, H / 4, W / 4) logits; large means anime."""
        result: Tensor = self.model(x)
        return result


def _judging(width_in: int, width: int, *, stride: int = 1, norm: bool = True) -> list[nn.Module]:
    convolution = spectral_norm(nn.Conv2d(width_in, width, 3, stride, padding=1, bias=False))
    return [convolution, *([nn.GroupNorm(1, width)] if norm else []), nn.LeakyReLU(0.2)]
