"""Conditional GAN: the class joins the latent (Mirza & Osindero 2014, arXiv:1411.1784), dense or convolutional."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from gankit.models import latents as rules
from gankit.models.checks import Choice, Flag, Whole
from gankit.models.facts import Facts
from gankit.models.latents import RANGES, activation, dense, last_activation
from gankit.models.options import EPSILON, ModelOptions, option

BODIES = ("dense", "convolutional")
_CLASSES = Whole(1_000_000)


@dataclass(frozen=True)
class CGANOptions(ModelOptions):
    """Options of the conditional generator."""

    latent: int = option(100, rules.LATENT, "Numbers in a latent")
    classes: int = option(10, _CLASSES, "Number of classes")
    embedding: int = option(10, _CLASSES, "Numbers in the learned vector of a class")
    body: str = option("dense", Choice(BODIES), "Kind of layers")
    widths: tuple[int, ...] = option(
        (128, 256, 512, 1024),
        rules.WIDTHS,
        "Widths of a dense body's hidden layers; channels of a convolutional body's first map and of every stage",
    )
    size: tuple[int, int] = option((28, 28), rules.SIZE, "Size of the images in pixels")
    channels: int = option(1, rules.COLOURS, "Colour channels: 1 for gray, 3 for RGB")
    norm: bool = option(True, Flag(), "BatchNorm; in a dense body after every layer except the first")
    eps: float = option(
        1e-5,
        EPSILON,
        "What the BatchNorms add to the variance; much code has BatchNorm2d(width, 0.8), which sets it to 0.8",
    )
    activation: str = option("leaky_relu", rules.ACTIVATION, "ReLU, or LeakyReLU with slope 0.2")
    output: str = option("tanh", rules.OUTPUT, "Last activation: tanh for images in [-1, 1], sigmoid for [0, 1]")
    class_first: bool = option(False, Flag(), "The class comes before the latent in the input of the body")

    def check(self) -> None:
        """Every stage of a convolutional body doubles the size."""
        factor = 2 ** (len(self.widths) - 1)
        if self.body == "convolutional" and any(side % factor for side in self.size):
            raise ValueError(
                f"size must be a multiple of {factor} for {len(self.widths)} widths, not {list(self.size)!r}"
            )

    def facts(self, name: str) -> Facts:
        """See the base class."""
        return Facts(
            name=name,
            paper="Mirza & Osindero 2014, arXiv:1411.1784",
            task="generate",
            channels=self.channels,
            value_range=RANGES[self.output],
            latent=self.latent,
            classes=self.classes,
            output_size=self.size,
            options=self.stored(),
        )


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
        result: Tensor = self.act(self.norm(self.conv(self.up(x))))
        return result


class ConvolutionalBody(nn.Module):
    """A dense layer to a small map, BatchNorm, stages that double its size, Conv3x3 to the colours.

    Args:
        joined: numbers in a latent with its class.
        widths: channels of the small map and of every stage.
        shape: (C, H, W) of the images; the sides are multiples of 2 to the power of the number of stages.
        norm: whether to have BatchNorm.
        eps: what the BatchNorms of the stages add to the variance; the first one always adds 1e-5.
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
        result: Tensor = self.last(self.stages(self.small(x)))
        return result

    def small(self, x: Tensor) -> Tensor:
        """(N, joined) -> the small map, before the stages."""
        result: Tensor = self.norm(self.start(x).unflatten(1, self.shape))
        return result


class DenseBody(nn.Module):
    """Dense layers to all pixels; arguments as in :class:`ConvolutionalBody`, ``widths`` of the hidden layers."""

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
        result: Tensor = self.layers(x).unflatten(1, self.shape)
        return result


class Generator(nn.Module):
    """A learned vector for each class, joined to the latent, and a body that makes an image of both.

    Args:
        options: ``None`` for the defaults.
    """

    Options = CGANOptions

    def __init__(self, options: CGANOptions | None = None) -> None:
        super().__init__()
        o = options or CGANOptions()
        self.class_first = o.class_first
        self.embedding = nn.Embedding(o.classes, o.embedding)
        make = DenseBody if o.body == "dense" else ConvolutionalBody
        self.body = make(o.latent + o.embedding, o.widths, (o.channels, *o.size), o.norm, o.eps, o.activation)
        self.last = last_activation(o.output)

    def forward(self, latents: Tensor, classes: Tensor) -> Tensor:
        """(N, latent) standard normal and (N,) int64 -> (N, C, H, W) in the value range."""
        result: Tensor = self.last(self.body(self.joined(latents, classes)))
        return result

    def joined(self, latents: Tensor, classes: Tensor) -> Tensor:
        """(N, latent) and (N,) int64 -> (N, latent + embedding), the input of the body."""
        parts = [latents, self.embedding(classes)]
        return torch.cat(parts[::-1] if self.class_first else parts, 1)


class Discriminator(nn.Module):
    """An image and its class to one logit, or to the value of a critic.

    In a dense body the class's vector joins the pixels. In a convolutional body the class is one more channel, a
    learned map, and Conv4x4 layers halve the image. Neither has BatchNorm, as a gradient penalty requires.

    Args:
        classes: number of classes.
        body: ``"dense"`` or ``"convolutional"``.
        widths: of the hidden layers.
        size: height and width of the images.
        channels: 1 for gray, 3 for RGB.
        spectral: spectral norm on every layer (Miyato et al. 2018, arXiv:1802.05957).
        dropout: probability of the dropout after each hidden layer.
        projection: a learned vector of the class, times the last features, joins the logit (Miyato & Koyama 2018,
            arXiv:1802.05637, eq. 3), beside the class at the input; it measures how well the features fit the class.
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
        return self.logits(self.layers[:-1](torch.cat(joined, 1)), classes)

    def logits(self, features: Tensor, classes: Tensor) -> Tensor:
        """The last features, (N, F) and (N,) int64 -> (N, 1)."""
        logit: Tensor = self.layers[-1](features)
        if self.projection is None:
            return logit
        result: Tensor = logit + (self.projection(classes) * features).sum(1, keepdim=True)
        return result
