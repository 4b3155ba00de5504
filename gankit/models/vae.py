"""Variational autoencoder of dense layers (Kingma & Welling, ICLR 2014, arXiv:1312.6114)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from gankit.models import latents as rules
from gankit.models.facts import Facts
from gankit.models.latents import RANGES, dense, last_activation
from gankit.models.options import ModelOptions, option


@dataclass(frozen=True)
class VAEOptions(ModelOptions):
    """Options of the autoencoder of dense layers."""

    latent: int = option(20, rules.LATENT, "Numbers in a latent")
    hidden: tuple[int, ...] = option(
        (400,), rules.WIDTHS, "Widths of the encoder's hidden layers; the decoder has them in reverse"
    )
    size: tuple[int, int] = option((28, 28), rules.SIZE, "Size of the images in pixels")
    channels: int = option(1, rules.COLOURS, "Colour channels: 1 for gray, 3 for RGB")
    activation: str = option("relu", rules.ACTIVATION, "ReLU, or LeakyReLU with slope 0.2")
    output: str = option("sigmoid", rules.OUTPUT, "Last activation: sigmoid for images in [0, 1], tanh for [-1, 1]")

    def facts(self, name: str) -> Facts:
        """See the base class."""
        return Facts(
            name=name,
            paper="Kingma & Welling 2014, arXiv:1312.6114",
            task="generate",
            channels=self.channels,
            value_range=RANGES[self.output],
            latent=self.latent,
            output_size=self.size,
            options=self.stored(),
        )


class VAE(nn.Module):
    """An encoder to the mean and variance of a latent, and a decoder, which alone is the generator.

    Args:
        options: ``None`` for those of pytorch/examples.
    """

    Options = VAEOptions

    def __init__(self, options: VAEOptions | None = None) -> None:
        super().__init__()
        o = options or VAEOptions()
        self.shape = (o.channels, *o.size)
        pixels = math.prod(self.shape)
        self.encoder = nn.Sequential(*dense((pixels, *o.hidden), o.activation))
        self.mean = nn.Linear(o.hidden[-1], o.latent)
        self.log_variance = nn.Linear(o.hidden[-1], o.latent)
        self.decoder = nn.Sequential(
            *dense((o.latent, *o.hidden[::-1]), o.activation), nn.Linear(o.hidden[0], pixels), last_activation(o.output)
        )

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The distributions of the latents of images.

        Args:
            x: (N, C, H, W) in the value range.

        Returns:
            Mean and logarithm of the variance, (N, latent) each.
        """
        features = self.encoder(x.flatten(1))
        return self.mean(features), self.log_variance(features)

    def decode(self, latents: Tensor) -> Tensor:
        """(N, latent) -> (N, C, H, W) in the value range."""
        result: Tensor = self.decoder(latents).unflatten(1, self.shape)
        return result

    def forward(self, latents: Tensor) -> Tensor:
        """The generator: (N, latent) standard normal -> (N, C, H, W)."""
        return self.decode(latents)

    def reconstruct(self, x: Tensor, noise: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Encode and decode images, and return what the loss needs.

        Args:
            x: (N, C, H, W) in the value range.
            noise: (N, latent) standard normal: the latent is mean + deviation · noise, as in training; ``None`` uses
                the mean.

        Returns:
            The reconstructed images, the mean and the logarithm of the variance.
        """
        mean, log_variance = self.encode(x)
        latents = mean if noise is None else mean + torch.exp(0.5 * log_variance) * noise
        return self.decode(latents), mean, log_variance
