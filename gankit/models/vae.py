"""Variational autoencoder of dense layers (Kingma & Welling, ICLR 2014, arXiv:1312.6114)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from gankit.models.facts import Facts
from gankit.models.latents import RANGES, check_image, check_layers, check_widths, dense, last_activation


class VAE(nn.Module):
    """An encoder to the mean and variance of a latent, and a decoder back, which alone is the generator.

    Args:
        latent: numbers in a latent.
        hidden: widths of the encoder's hidden layers; the decoder has them in reverse.
        size: height and width of the images.
        channels: 1 for gray, 3 for RGB.
        activation: ``"relu"``, or ``"leaky_relu"`` with slope 0.2.
        output: the last activation: ``"sigmoid"`` for images in [0, 1], ``"tanh"`` for [-1, 1].
    """

    def __init__(
        self,
        latent: int = 20,
        hidden: Sequence[int] = (400,),
        size: Sequence[int] = (28, 28),
        channels: int = 1,
        activation: str = "relu",
        output: str = "sigmoid",
    ) -> None:
        super().__init__()
        self.shape = (channels, *size)
        pixels = math.prod(self.shape)
        self.encoder = nn.Sequential(*dense((pixels, *hidden), activation))
        self.mean = nn.Linear(hidden[-1], latent)
        self.log_variance = nn.Linear(hidden[-1], latent)
        self.decoder = nn.Sequential(
            *dense((latent, *hidden[::-1]), activation), nn.Linear(hidden[0], pixels), last_activation(output)
        )

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Images to what their latents may be.

        Args:
            x: (N, C, H, W) in the value range.

        Returns:
            Mean and logarithm of the variance, (N, latent) each.
        """
        features = self.encoder(x.flatten(1))
        return self.mean(features), self.log_variance(features)

    def decode(self, latents: Tensor) -> Tensor:
        """(N, latent) -> (N, C, H, W) in the value range."""
        return self.decoder(latents).unflatten(1, self.shape)

    def forward(self, latents: Tensor) -> Tensor:
        """The generator: (N, latent) standard normal -> (N, C, H, W)."""
        return self.decode(latents)

    def reconstruct(self, x: Tensor, noise: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Images there and back, with what the loss needs.

        Args:
            x: (N, C, H, W) in the value range.
            noise: (N, latent) standard normal: the latent is mean + deviation · noise, as in training; ``None`` takes
                the mean.

        Returns:
            The images again, the mean and the logarithm of the variance.
        """
        mean, log_variance = self.encode(x)
        latents = mean if noise is None else mean + torch.exp(0.5 * log_variance) * noise
        return self.decode(latents), mean, log_variance


def facts(
    name: str = "vae",
    latent: int = 20,
    hidden: Sequence[int] = (400,),
    size: Sequence[int] = (28, 28),
    channels: int = 1,
    activation: str = "relu",
    output: str = "sigmoid",
) -> Facts:
    """What a user of the generator must know before running it.

    Raises:
        ValueError: an option is one that no network of ours has.
    """
    check_layers(latent, activation, output)
    check_widths("hidden", hidden)
    check_image(size, channels)
    return Facts(
        name=name,
        paper="Kingma & Welling 2014, arXiv:1312.6114",
        task="generate",
        scale=1,
        channels=channels,
        value_range=RANGES[output],
        multiple=1,
        norm="none",
        options={
            "latent": latent,
            "hidden": list(hidden),
            "size": list(size),
            "channels": channels,
            "activation": activation,
            "output": output,
        },
        latent=latent,
        output_size=(size[0], size[1]),
    )
