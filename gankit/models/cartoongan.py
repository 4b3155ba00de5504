"""CartoonGAN's generator and discriminator (Chen, Lai and Liu, CVPR 2018).

The layers are those of the paper's figure 2. The rest is how Yijunmaverick/CartoonGAN-Test-Pytorch-Torch runs the
authors' published weights: the norms are InstanceNorm with weights and an epsilon of 1e-9, the last layer is tanh, and
colours are BGR on both sides.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from torch import Tensor, nn

from gankit.models.checks import Choice
from gankit.models.facts import Facts
from gankit.models.options import DEPTH, EPSILON, WIDTH, ModelOptions, option

_LEAST = 8  # a quarter of it must be more than the blocks' reflected border

ChannelOrder = Literal["rgb", "bgr"]


@dataclass(frozen=True)
class CartoonGeneratorOptions(ModelOptions):
    """Options of CartoonGAN's generator."""

    channels: int = option(64, WIDTH, "Width of the first stage; the trunk has four times as many")
    blocks: int = option(8, DEPTH, "Residual blocks")
    in_channels: int = option(3, WIDTH, "Colour channels of input and output")
    channel_order: ChannelOrder = option(
        "bgr",
        Choice(get_args(ChannelOrder)),
        "Order of the colours that the weights were trained for; the generator itself takes and returns RGB",
    )
    eps: float = option(1e-9, EPSILON, "What the normalisations add to the variance")

    def facts(self, name: str) -> Facts:
        """See the base class."""
        return Facts(
            name=name,
            paper="Chen, Lai and Liu 2018, CVPR",
            task="translate",
            channels=self.in_channels,
            out_channels=self.in_channels,
            value_range=(-1.0, 1.0),
            multiple=4,
            minimum=_LEAST,
            tileable=False,
            options=self.stored(),
        )


class CartoonBlock(nn.Module):
    """Two reflect-padded 3×3 convolutions with affine InstanceNorm, ReLU between them, and the skip around them."""

    def __init__(self, channels: int, eps: float) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.ReflectionPad2d(1),
            nn.Conv2d(channels, channels, 3),
            nn.InstanceNorm2d(channels, eps, affine=True),
            nn.ReLU(inplace=True),
            nn.ReflectionPad2d(1),
            nn.Conv2d(channels, channels, 3),
            nn.InstanceNorm2d(channels, eps, affine=True),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> the same shape; no activation after the sum."""
        result: Tensor = x + self.layers(x)
        return result


class CartoonGenerator(nn.Module):
    """A flat 7×7 convolution, two strided pairs, residual blocks, two transposed pairs, a 7×7 convolution, tanh.

    Args:
        options: ``None`` for the paper's.

    The sides of the input must be multiples of 4, and at least 8.
    """

    Options = CartoonGeneratorOptions

    def __init__(self, options: CartoonGeneratorOptions | None = None) -> None:
        super().__init__()
        o = options or CartoonGeneratorOptions()
        channels, in_channels, eps = o.channels, o.in_channels, o.eps
        self.reverse = o.channel_order == "bgr" and in_channels > 1
        half, trunk = 2 * channels, 4 * channels
        self.head = nn.Sequential(nn.ReflectionPad2d(3), nn.Conv2d(in_channels, channels, 7), *_norm(channels, eps))
        self.down = nn.Sequential(*(_down(*pair, eps) for pair in ((channels, half), (half, trunk))))
        self.body = nn.Sequential(*(CartoonBlock(trunk, eps) for _ in range(o.blocks)))
        self.up = nn.Sequential(*(_up(*pair, eps) for pair in ((trunk, half), (half, channels))))
        self.tail = nn.Sequential(nn.ReflectionPad2d(3), nn.Conv2d(channels, in_channels, 7), nn.Tanh())

    def forward(self, x: Tensor) -> Tensor:
        """Translate a batch.

        Args:
            x: (N, C, H, W) floating point, RGB in [-1, 1]; H and W multiples of 4.

        Returns:
            The same shape, RGB in [-1, 1].
        """
        if self.reverse:
            x = x.flip(1)
        x = self.tail(self.up(self.body(self.down(self.head(x)))))
        return x.flip(1) if self.reverse else x


class CartoonDiscriminator(nn.Module):
    """The paper's discriminator: seven 3×3 convolutions, two of them strided, one logit for every 4×4 pixels.

    Args:
        in_channels: colour channels of the image.
        channels: width of the first stage (32 in the paper).
    """

    def __init__(self, in_channels: int = 3, channels: int = 32) -> None:
        super().__init__()
        self.model = nn.Sequential(
            nn.Conv2d(in_channels, channels, 3, padding=1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(channels, 2 * channels, 3, stride=2, padding=1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(2 * channels, 4 * channels, 3, padding=1),
            nn.InstanceNorm2d(4 * channels, affine=True),
            nn.LeakyReLU(0.2),
            nn.Conv2d(4 * channels, 4 * channels, 3, stride=2, padding=1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(4 * channels, 8 * channels, 3, padding=1),
            nn.InstanceNorm2d(8 * channels, affine=True),
            nn.LeakyReLU(0.2),
            nn.Conv2d(8 * channels, 8 * channels, 3, padding=1),
            nn.InstanceNorm2d(8 * channels, affine=True),
            nn.LeakyReLU(0.2),
            nn.Conv2d(8 * channels, 1, 3, padding=1),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) in [-1, 1] -> (N, 1, H / 4, W / 4) logits; large means a cartoon."""
        result: Tensor = self.model(x)
        return result


def _norm(channels: int, eps: float) -> list[nn.Module]:
    return [nn.InstanceNorm2d(channels, eps, affine=True), nn.ReLU(inplace=True)]


def _down(width_in: int, width: int, eps: float) -> nn.Sequential:
    """Half the size; no norm between the two convolutions."""
    return nn.Sequential(
        nn.Conv2d(width_in, width, 3, stride=2, padding=1),
        nn.Conv2d(width, width, 3, padding=1),
        *_norm(width, eps),
    )


def _up(width_in: int, width: int, eps: float) -> nn.Sequential:
    """Twice the size."""
    return nn.Sequential(
        nn.ConvTranspose2d(width_in, width, 3, stride=2, padding=1, output_padding=1),
        nn.Conv2d(width, width, 3, padding=1),
        *_norm(width, eps),
    )
