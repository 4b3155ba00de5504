"""CartoonGAN's generator and discriminator (Chen, Lai and Liu, CVPR 2018).

The paper's figure 2 gives the layers. That the norms are InstanceNorm with weights and an epsilon of 1e-9, that the
last layer is tanh, and that colours go in and come out as BGR, is from the authors' published weights as
Yijunmaverick/CartoonGAN-Test-Pytorch-Torch runs them.
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from gankit.models.checks import one_of, whole
from gankit.models.facts import Facts

_WIDEST, _DEEPEST = 4096, 1024  # beyond them a weights file is damaged
_LEAST = 8  # a quarter of it must be more than the blocks' reflected border

ChannelOrder = Literal["rgb", "bgr"]


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
        return x + self.layers(x)


class CartoonGenerator(nn.Module):
    """A flat 7×7 convolution, two strided pairs, residual blocks, two transposed pairs, a 7×7 convolution, tanh.

    Args:
        channels: width of the first stage (64 in the paper); the trunk has four times as many.
        blocks: residual blocks (8 in the paper).
        in_channels: colour channels of input and output.
        channel_order: of the colours that the weights were trained for; the caller's are RGB in any case.
        eps: of the norms.

    The sides of the input must be multiples of 4, and at least 8.
    """

    def __init__(
        self,
        channels: int = 64,
        blocks: int = 8,
        in_channels: int = 3,
        *,
        channel_order: ChannelOrder = "bgr",
        eps: float = 1e-9,
    ) -> None:
        super().__init__()
        self.reverse = channel_order == "bgr" and in_channels > 1
        half, trunk = 2 * channels, 4 * channels
        self.head = nn.Sequential(nn.ReflectionPad2d(3), nn.Conv2d(in_channels, channels, 7), *_norm(channels, eps))
        self.down = nn.Sequential(*(_down(*pair, eps) for pair in ((channels, half), (half, trunk))))
        self.body = nn.Sequential(*(CartoonBlock(trunk, eps) for _ in range(blocks)))
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
        in_channels: colour channels of the judged image.
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
        return self.model(x)


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


def facts(
    name: str = "cartoongan",
    channels: int = 64,
    blocks: int = 8,
    in_channels: int = 3,
    *,
    channel_order: ChannelOrder = "bgr",
    eps: float = 1e-9,
) -> Facts:
    """What a user of the generator must know before running it.

    Raises:
        ValueError: an option is one that no network of ours has.
    """
    for option, size in (("channels", channels), ("in_channels", in_channels)):
        whole(option, size, _WIDEST)
    whole("blocks", blocks, _DEEPEST)
    one_of("channel_order", channel_order, ("rgb", "bgr"))
    if not isinstance(eps, (int, float)) or not 0 < eps < 1:
        raise ValueError(f"eps must be a number between 0 and 1, not {eps!r}")
    return Facts(
        name=name,
        paper="Chen, Lai and Liu 2018, CVPR",
        task="translate",
        scale=1,
        channels=in_channels,
        value_range=(-1.0, 1.0),
        multiple=4,
        norm="instance",
        options={
            "channels": channels,
            "blocks": blocks,
            "in_channels": in_channels,
            "channel_order": channel_order,
            "eps": eps,
        },
        out_channels=in_channels,
        minimum=_LEAST,
    )
