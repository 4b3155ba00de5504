"""Real-ESRGAN's compact upscaler and its U-Net discriminator (Wang et al., ICCVW 2021, arXiv:2107.10833)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from gankit.models.checks import Choice, Whole
from gankit.models.facts import Facts
from gankit.models.options import WIDTH, ModelOptions, option

Activation = Literal["prelu", "relu", "leaky"]


@dataclass(frozen=True)
class SRVGGNetOptions(ModelOptions):
    """Options of Real-ESRGAN's compact generator."""

    scale: int = option(4, Whole(16), "Enlargement, in one PixelShuffle")
    channels: int = option(64, WIDTH, "Width of the body")
    convs: int = option(
        16,
        Whole(1024, least=0),
        "Convolutions between the first and the last; the published networks have 16 for animation, 32 for photographs",
    )
    in_channels: int = option(3, WIDTH, "Colour channels of input and output")
    activation: Activation = option(
        "prelu",
        Choice(get_args(Activation)),
        "PReLU with a slope for every channel, ReLU, or LeakyReLU with slope 0.1",
    )

    def facts(self, name: str) -> Facts:
        """See the base class."""
        return Facts(
            name=name,
            paper="Wang et al. 2021, arXiv:2107.10833",
            task="upscale",
            scale=self.scale,
            channels=self.in_channels,
            value_range=(0.0, 1.0),
            tileable=True,
            options=self.stored(),
        )


class SRVGGNet(nn.Module):
    """Plain 3×3 convolutions at the low resolution, one PixelShuffle, and the enlarged input added to its result.

    Args:
        options: ``None`` for the published ones.

    The values are RGB in [0, 1] on both sides; the output is not clamped. The weights have the names of the published
    files: ``body.0``, ``body.2``, … are convolutions, ``body.1``, ``body.3``, … activations.
    """

    Options = SRVGGNetOptions

    def __init__(self, options: SRVGGNetOptions | None = None) -> None:
        super().__init__()
        o = options or SRVGGNetOptions()
        self.scale = o.scale
        layers: list[nn.Module] = []
        width_in = o.in_channels
        for _ in range(o.convs + 1):
            layers += [nn.Conv2d(width_in, o.channels, 3, padding=1), _activation(o.activation, o.channels)]
            width_in = o.channels
        layers.append(nn.Conv2d(width_in, o.in_channels * o.scale**2, 3, padding=1))
        self.body = nn.Sequential(*layers)
        self.shuffle = nn.PixelShuffle(o.scale)
        self.base = nn.Upsample(scale_factor=o.scale, mode="nearest")

    def forward(self, x: Tensor) -> Tensor:
        """Upscale a batch.

        Args:
            x: (N, C, H, W) floating point, RGB in [0, 1]; any H and W.

        Returns:
            (N, C, scale·H, scale·W), nominally in [0, 1], not clamped.
        """
        result: Tensor = self.shuffle(self.body(x)) + self.base(x)
        return result


def _activation(kind: Activation, channels: int) -> nn.Module:
    if kind == "prelu":
        return nn.PReLU(channels)
    return nn.ReLU() if kind == "relu" else nn.LeakyReLU(0.1)


class UNetDiscriminator(nn.Module):
    """Real-ESRGAN's discriminator: a U-Net with spectral normalisation, one logit for every pixel.

    The first and the last convolution are not normalised, as published.

    Args:
        in_channels: colour channels of the image.
        channels: width of the first stage (64 in the paper).
        skip: add the downward features to the upward ones of their size.
    """

    def __init__(self, in_channels: int = 3, channels: int = 64, *, skip: bool = True) -> None:
        super().__init__()
        widths = [channels * factor for factor in (1, 2, 4, 8)]
        self.skip = skip
        self.first = nn.Conv2d(in_channels, channels, 3, padding=1)
        self.down = nn.ModuleList(
            spectral_norm(nn.Conv2d(width, width * 2, 4, stride=2, padding=1, bias=False)) for width in widths[:3]
        )
        self.up = nn.ModuleList(
            spectral_norm(nn.Conv2d(width * 2, width, 3, padding=1, bias=False)) for width in reversed(widths[:3])
        )
        self.refine = nn.ModuleList(
            spectral_norm(nn.Conv2d(channels, channels, 3, padding=1, bias=False)) for _ in range(2)
        )
        self.last = nn.Conv2d(channels, 1, 3, padding=1)
        self.enlarge = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False)
        self.act = nn.LeakyReLU(0.2)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) in [0, 1], H and W multiples of 8 -> (N, 1, H, W) logits; large means real."""
        levels = [self.act(self.first(x))]
        for conv in self.down:
            levels.append(self.act(conv(levels[-1])))
        x = levels.pop()
        for conv in self.up:
            x = self.act(conv(self.enlarge(x)))
            level = levels.pop()
            if self.skip:
                x = x + level
        for conv in self.refine:
            x = self.act(conv(x))
        result: Tensor = self.last(x)
        return result
