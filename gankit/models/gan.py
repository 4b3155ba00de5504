"""The first GAN: a generator and a discriminator of dense layers (Goodfellow et al., NIPS 2014, arXiv:1406.2661)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from gankit.models import latents as rules
from gankit.models.checks import Flag
from gankit.models.facts import Facts
from gankit.models.latents import RANGES, dense, last_activation
from gankit.models.options import EPSILON, ModelOptions, option


@dataclass(frozen=True)
class GANOptions(ModelOptions):
    """Options of the generator of dense layers. The defaults are the paper's for MNIST."""

    latent: int = option(100, rules.LATENT, "Numbers in a latent")
    hidden: tuple[int, ...] = option((1200, 1200), rules.WIDTHS, "Widths of the hidden layers")
    size: tuple[int, int] = option((28, 28), rules.SIZE, "Size of the images in pixels")
    channels: int = option(1, rules.COLOURS, "Colour channels: 1 for gray, 3 for RGB")
    norm: bool = option(False, Flag(), "BatchNorm after every hidden layer except the first")
    eps: float = option(
        1e-5,
        EPSILON,
        "What the BatchNorms add to the variance; much code has BatchNorm1d(width, 0.8), which sets it to 0.8",
    )
    activation: str = option("relu", rules.ACTIVATION, "ReLU, or LeakyReLU with slope 0.2")
    output: str = option("sigmoid", rules.OUTPUT, "Last activation: sigmoid for images in [0, 1], tanh for [-1, 1]")

    def facts(self, name: str) -> Facts:
        """See the base class."""
        return Facts(
            name=name,
            paper="Goodfellow et al. 2014, arXiv:1406.2661",
            task="generate",
            channels=self.channels,
            value_range=RANGES[self.output],
            latent=self.latent,
            output_size=self.size,
            options=self.stored(),
        )


class Generator(nn.Module):
    """Dense layers from a latent to all pixels at once.

    Args:
        options: ``None`` for the paper's for MNIST.
    """

    Options = GANOptions

    def __init__(self, options: GANOptions | None = None) -> None:
        super().__init__()
        o = options or GANOptions()
        self.shape = (o.channels, *o.size)
        self.layers = nn.Sequential(
            *dense((o.latent, *o.hidden), o.activation, norm=o.norm, eps=o.eps),
            nn.Linear(o.hidden[-1], math.prod(self.shape)),
            last_activation(o.output),
        )

    def forward(self, latents: Tensor) -> Tensor:
        """(N, latent) standard normal -> (N, C, H, W) in the value range."""
        result: Tensor = self.layers(latents).unflatten(1, self.shape)
        return result


class Discriminator(nn.Module):
    """Dense layers from all pixels to one logit.

    It has LeakyReLU 0.2 and dropout, as nearly all later code does; the paper's has maxout units.

    Args:
        hidden: widths of the hidden layers.
        size: height and width of the images.
        channels: 1 for gray, 3 for RGB.
        dropout: probability of the dropout after each hidden layer.
    """

    def __init__(
        self,
        hidden: Sequence[int] = (512, 256),
        size: Sequence[int] = (28, 28),
        channels: int = 1,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        width = channels * math.prod(size)
        for following in hidden:
            layers += [nn.Linear(width, following), nn.LeakyReLU(0.2), nn.Dropout(dropout)]
            width = following
        self.layers = nn.Sequential(*layers, nn.Linear(width, 1))

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, 1) logits; large means real."""
        result: Tensor = self.layers(x.flatten(1))
        return result
