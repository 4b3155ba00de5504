"""Conditional GAN: the class joins the latent (Mirza & Osindero 2014, arXiv:1411.1784), dense or convolutional."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from gankit.models.checks import flag, one_of, whole
from gankit.models.facts import Facts
from gankit.models.latents import (
    RANGES,
    activation,
    check_image,
    check_layers,
    check_widths,
    dense,
    last_activation,
)

BODIES = ("dense", "convolutional")
_MOST_CLASSES = 1_000_000


class Stage(nn.Module):
    """Twice the size by repetition, Conv3x3, BatchNorm, activation."""

    def __init__(self, before: int, width: int, norm: bool, eps: float, act: str) -> None:
        super().__init__()
        self.up = nn.Upsample(scale_factor=2.0)
        self.conv = nn.Conv2d(before, width, 3, padding=1)
        self.norm = nn.BatchNorm2d(width, eps) if norm else nn.Identity()
        self.act = activation(act)

    def forward(self, x: Tensor) -> Tensor:
        """(N, before, H, W) -> (N, width, 2H, 2W)."""
        return self.act(self.norm(self.conv(self.up(x))))


class ConvolutionalBody(nn.Module):
    """A dense layer to a small map, BatchNorm, stages that double it, Conv3x3 to the colours.

    Args:
        joined: numbers in a latent with its class.
        widths: channels of the small map and of every stage.
        shape: (C, H, W) of the images; the sides are multiples of 2 to the number of stages.
        norm: with BatchNorm.
        eps: of the stages' BatchNorms; the first one's is 1e-5 always.
        act: see :func:`gankit.models.latents.activation`.
    """

    def __init__(
        self, joined: int, widths: Sequence[int], shape: tuple[int, int, int], norm: bool, eps: float, act: str
    ) -> None:
        super().__init__()
        channels, height, width = shape
        factor = 2 ** (len(widths) - 1)
        self.shape = (widths[0], height // factor, width // factor)
        self.start = nn.Linear(joined, math.prod(self.shape))
        self.norm = nn.BatchNorm2d(widths[0]) if norm else nn.Identity()
        pairs = itertools.pairwise(widths)
        self.stages = nn.Sequential(*(Stage(before, width, norm, eps, act) for before, width in pairs))
        self.last = nn.Conv2d(widths[-1], channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, joined) -> (N, C, H, W), before the last activation."""
        return self.last(self.stages(self.small(x)))

    def small(self, x: Tensor) -> Tensor:
        """(N, joined) -> the small map, before the stages."""
        return self.norm(self.start(x).unflatten(1, self.shape))


class DenseBody(nn.Module):
    """Dense layers to all pixels; arguments as :class:`ConvolutionalBody`, ``widths`` of the hidden layers."""

    def __init__(
        self, joined: int, widths: Sequence[int], shape: tuple[int, int, int], norm: bool, eps: float, act: str
    ) -> None:
        super().__init__()
        self.shape = shape
        self.layers = nn.Sequential(
            *dense((joined, *widths), act, norm=norm, eps=eps), nn.Linear(widths[-1], math.prod(shape))
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, joined) -> (N, C, H, W), before the last activation."""
        return self.layers(x).unflatten(1, self.shape)


class Generator(nn.Module):
    """A learned vector for each class, joined to the latent, and a body that makes an image of both.

    Args:
        latent: numbers in a latent.
        classes: how many.
        embedding: numbers in the vector of a class.
        body: ``"dense"`` or ``"convolutional"``.
        widths: see :class:`DenseBody` and :class:`ConvolutionalBody`.
        size: height and width of the images.
        channels: 1 for gray, 3 for RGB.
        norm: with BatchNorm; in a dense body after every layer but the first.
        eps: of the BatchNorms. Much code says ``BatchNorm2d(width, 0.8)``, which sets it to 0.8.
        activation: ``"relu"``, or ``"leaky_relu"`` with slope 0.2.
        output: the last activation: ``"tanh"`` for images in [-1, 1], ``"sigmoid"`` for [0, 1].
        class_first: the class comes before the latent in what the body sees.
    """

    def __init__(
        self,
        latent: int = 100,
        classes: int = 10,
        embedding: int = 10,
        body: str = "dense",
        widths: Sequence[int] = (128, 256, 512, 1024),
        size: Sequence[int] = (28, 28),
        channels: int = 1,
        norm: bool = True,
        eps: float = 1e-5,
        activation: str = "leaky_relu",
        output: str = "tanh",
        class_first: bool = False,
    ) -> None:
        super().__init__()
        self.class_first = class_first
        self.embedding = nn.Embedding(classes, embedding)
        make = DenseBody if body == "dense" else ConvolutionalBody
        self.body = make(latent + embedding, widths, (channels, size[0], size[1]), norm, eps, activation)
        self.last = last_activation(output)

    def forward(self, latents: Tensor, classes: Tensor) -> Tensor:
        """(N, latent) standard normal and (N,) int64 -> (N, C, H, W) in the value range."""
        return self.last(self.body(self.joined(latents, classes)))

    def joined(self, latents: Tensor, classes: Tensor) -> Tensor:
        """(N, latent) and (N,) int64 -> (N, latent + embedding): what the body sees."""
        parts = [latents, self.embedding(classes)]
        return torch.cat(parts[::-1] if self.class_first else parts, 1)


class Discriminator(nn.Module):
    """An image and its class to one logit, or to the value of a critic.

    Dense: the class's vector joins the pixels. Convolutional: the class is one more channel (a learned map), then
    Conv4x4 that halve the image. No BatchNorm in either, as a gradient penalty wants it.

    Args:
        classes: how many.
        body: ``"dense"`` or ``"convolutional"``.
        widths: of the hidden layers.
        size: height and width of the images.
        channels: 1 for gray, 3 for RGB.
        spectral: spectral norm on every layer (Miyato et al. 2018, arXiv:1802.05957).
        dropout: probability of the dropout after each hidden layer.
        projection: a learned vector of the class, times the last features, joins the logit (Miyato & Koyama 2018,
            arXiv:1802.05637, eq. 3), beside the class at the input: it asks of every feature whether it fits the class.
    """

    def __init__(
        self,
        classes: int = 10,
        body: str = "dense",
        widths: Sequence[int] = (512, 512, 512),
        size: Sequence[int] = (28, 28),
        channels: int = 1,
        *,
        spectral: bool = False,
        dropout: float = 0.0,
        projection: bool = False,
    ) -> None:
        super().__init__()
        height, width = size
        self.shape = (1, height, width) if body == "convolutional" else None
        self.embedding = nn.Embedding(classes, height * width if self.shape else classes)
        before = channels + 1 if self.shape else channels * height * width + classes
        layers: list[nn.Module] = []
        for following in widths:
            if self.shape:
                layer: nn.Module = nn.Conv2d(before, following, 4, stride=2, padding=1)
                height, width = height // 2, width // 2
            else:
                layer = nn.Linear(before, following)
            layers += [spectral_norm(layer) if spectral else layer, nn.LeakyReLU(0.2)]
            if dropout:
                layers.append(nn.Dropout(dropout))
            before = following
        features = before * height * width if self.shape else before
        last = nn.Linear(features, 1)
        self.layers = nn.Sequential(*layers, nn.Flatten(), spectral_norm(last) if spectral else last)
        self.projection = nn.Embedding(classes, features) if projection else None
        if self.projection is not None:
            nn.init.normal_(self.projection.weight, 0.0, 0.02)
            if spectral:
                spectral_norm(self.projection)

    def forward(self, x: Tensor, classes: Tensor) -> Tensor:
        """(N, C, H, W) and (N,) int64 -> (N, 1); large means real."""
        known = self.embedding(classes)
        joined = [x, known.unflatten(1, self.shape)] if self.shape else [x.flatten(1), known]
        return self.judge(self.layers[:-1](torch.cat(joined, 1)), classes)

    def judge(self, features: Tensor, classes: Tensor) -> Tensor:
        """The last features, (N, F) and (N,) int64 -> (N, 1)."""
        logit: Tensor = self.layers[-1](features)
        if self.projection is None:
            return logit
        return logit + (self.projection(classes) * features).sum(1, keepdim=True)


def facts(
    name: str = "cgan",
    latent: int = 100,
    classes: int = 10,
    embedding: int = 10,
    body: str = "dense",
    widths: Sequence[int] = (128, 256, 512, 1024),
    size: Sequence[int] = (28, 28),
    channels: int = 1,
    norm: bool = True,
    eps: float = 1e-5,
    activation: str = "leaky_relu",
    output: str = "tanh",
    class_first: bool = False,
) -> Facts:
    """What a user of the generator must know before running it.

    Raises:
        ValueError: an option is one that no network of ours has.
    """
    check_layers(latent, activation, output, eps)
    check_widths("widths", widths)
    check_image(size, channels)
    whole("classes", classes, _MOST_CLASSES)
    whole("embedding", embedding, _MOST_CLASSES)
    one_of("body", body, BODIES)
    for option, value in (("norm", norm), ("class_first", class_first)):
        flag(option, value)
    factor = 2 ** (len(widths) - 1)
    if body == "convolutional" and any(side % factor for side in size):
        raise ValueError(f"size must be a multiple of {factor} for {len(widths)} widths, not {list(size)!r}")
    return Facts(
        name=name,
        paper="Mirza & Osindero 2014, arXiv:1411.1784",
        task="generate",
        scale=1,
        channels=channels,
        value_range=RANGES[output],
        multiple=1,
        norm="batch" if norm else "none",
        options={
            "latent": latent,
            "classes": classes,
            "embedding": embedding,
            "body": body,
            "widths": list(widths),
            "size": list(size),
            "channels": channels,
            "norm": norm,
            "eps": eps,
            "activation": activation,
            "output": output,
            "class_first": class_first,
        },
        latent=latent,
        classes=classes,
        output_size=(size[0], size[1]),
    )
