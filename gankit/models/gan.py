"""The first GAN: a generator and a discriminator of dense layers (Goodfellow et al., NIPS 2014, arXiv:1406.2661)."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor, nn

from gankit.models.checks import flag
from gankit.models.facts import Facts
from gankit.models.latents import RANGES, check_image, check_layers, check_widths, dense, last_activation


class Generator(nn.Module):
    """Dense layers from a latent to all pixels at once. The defaults are the paper's for MNIST.

    Args:
        latent: numbers in a latent.
        hidden: widths of the hidden layers.
        size: height and width of the images.
        channels: 1 for gray, 3 for RGB.
        norm: BatchNorm after every hidden layer but the first.
        eps: of the BatchNorms. Much code says ``BatchNorm1d(width, 0.8)``, which sets it to 0.8.
        activation: ``"relu"``, or ``"leaky_relu"`` with slope 0.2.
        output: the last activation: ``"sigmoid"`` for images in [0, 1], ``"tanh"`` for [-1, 1].
    """

    def __init__(
        self,
        latent: int = 100,
        hidden: Sequence[int] = (1200, 1200),
        size: Sequence[int] = (28, 28),
        channels: int = 1,
        norm: bool = False,
        eps: float = 1e-5,
        activation: str = "relu",
        output: str = "sigmoid",
    ) -> None:
        super().__init__()
        self.shape = (channels, *size)
        self.layers = nn.Sequential(
            *dense((latent, *hidden), activation, norm=norm, eps=eps),
            nn.Linear(hidden[-1], math.prod(self.shape)),
            last_activation(output),
        )

    def forward(self, latents: Tensor) -> Tensor:
        """(N, latent) standard normal -> (N, C, H, W) in the value range."""
        return self.layers(latents).unflatten(1, self.shape)


class Discriminator(nn.Module):
    """Dense layers from all pixels to one logit.

    LeakyReLU 0.2 with dropout, as nearly everybody trains it since; the paper's own has maxout units.

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
        return self.layers(x.flatten(1))


def facts(
    name: str = "gan",
    latent: int = 100,
    hidden: Sequence[int] = (1200, 1200),
    size: Sequence[int] = (28, 28),
    channels: int = 1,
    norm: bool = False,
    eps: float = 1e-5,
    activation: str = "relu",
    output: str = "sigmoid",
) -> Facts:
    """What a user of the generator must know before running it.

    Raises:
        ValueError: an option is one that no network of ours has.
    """
    check_layers(latent, activation, output, eps)
    check_widths("hidden", hidden)
    check_image(size, channels)
    flag("norm", norm)
    return Facts(
        name=name,
        paper="Goodfellow et al. 2014, arXiv:1406.2661",
        task="generate",
        scale=1,
        channels=channels,
        value_range=RANGES[output],
        multiple=1,
        norm="batch" if norm else "none",
        options={
            "latent": latent,
            "hidden": list(hidden),
            "size": list(size),
            "channels": channels,
            "norm": norm,
            "eps": eps,
            "activation": activation,
            "output": output,
        },
        latent=latent,
        output_size=(size[0], size[1]),
    )
