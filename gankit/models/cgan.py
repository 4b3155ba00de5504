"""Conditional GAN: the class joins the latent (Mirza & Osindero 2014, arXiv:1411.1784), dense or convolutional."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F
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
    conditional_norm: bool = option(
        False, Flag(), "The BatchNorms of a convolutional body have a scale and a shift for each class", omit=True
    )

    def check(self) -> None:
        """Every stage of a convolutional body doubles the size, and only its norms can be conditional."""
        if self.conditional_norm and not (self.norm and self.body == "convolutional"):
            raise ValueError("conditional_norm needs norm and a convolutional body")
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


class ConditionalNorm(nn.Module):
    """BatchNorm whose scale and shift depend on the class (de Vries et al. 2017, arXiv:1707.00683).

    Args:
        width: channels.
        classes: number of classes.
        eps: added to the variance.
    """

    def __init__(self, width: int, classes: int, eps: float) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(width, eps, affine=False)
        self.scale, self.shift = nn.Embedding(classes, width), nn.Embedding(classes, width)
        nn.init.ones_(self.scale.weight)
        nn.init.zeros_(self.shift.weight)

    def forward(self, x: Tensor, classes: Tensor) -> Tensor:
        """(N, width, H, W) and (N,) int64 -> the same shape as the first."""
        scale, shift = (table(classes)[:, :, None, None] for table in (self.scale, self.shift))
        result: Tensor = self.norm(x) * scale + shift
        return result


def _norm(width: int, classes: int, norm: bool, eps: float) -> nn.Module:
    """Conditional BatchNorm where there are classes, else BatchNorm, or none."""
    if not norm:
        return nn.Identity()
    return ConditionalNorm(width, classes, eps) if classes else nn.BatchNorm2d(width, eps)


def _normalised(norm: nn.Module, x: Tensor, classes: Tensor) -> Tensor:
    result: Tensor = norm(x, classes) if isinstance(norm, ConditionalNorm) else norm(x)
    return result


class Stage(nn.Module):
    """Twice the size by repetition, Conv3x3, BatchNorm, activation."""

    def __init__(self, before: int, width: int, norm: nn.Module, act: str) -> None:
        super().__init__()
        self.up = nn.Upsample(scale_factor=2.0)
        self.conv = nn.Conv2d(before, width, 3, padding=1)
        self.norm = norm
        self.act = activation(act)

    def forward(self, x: Tensor, classes: Tensor) -> Tensor:
        """(N, before, H, W) and (N,) int64 -> (N, width, 2H, 2W)."""
        # Training takes the short way: 16 products for four pixels in place of 36, and no repeated map to keep.
        doubled = doubling(x, self.conv) if self.training else self.conv(self.up(x))
        result: Tensor = self.act(_normalised(self.norm, doubled, classes))
        return result


def doubling(x: Tensor, conv: nn.Conv2d) -> Tensor:
    """Repetition to twice the size and Conv3x3 as one transposed Conv4x4 of stride 2, with the same result.

    The pixels 2i and 2i + 1 of a repeated row are both x[i], so that the kernel (w0, w1, w2) sees only two different
    values anywhere: w0·x[i-1] + (w1 + w2)·x[i] at 2i, (w0 + w1)·x[i] + w2·x[i+1] at 2i + 1. These are the taps
    (w2, w1 + w2, w0 + w1, w0) of a transposed convolution.

    Args:
        x: (N, C, H, W).
        conv: 3×3 with a padding of 1.

    Returns:
        (N, conv.out_channels, 2H, 2W).
    """
    first, middle, last = conv.weight.unbind(2)
    first, middle, last = torch.stack((last, middle + last, first + middle, first), 2).unbind(3)
    taps = torch.stack((last, middle + last, first + middle, first), 3)
    return F.conv_transpose2d(x, taps.transpose(0, 1), conv.bias, stride=2, padding=1)


class ConvolutionalBody(nn.Module):
    """A dense layer to a small map, BatchNorm, stages that double its size, Conv3x3 to the colours.

    Args:
        joined: numbers in a latent with its class.
        options: widths, size and so on of the generator.
    """

    def __init__(self, joined: int, options: CGANOptions) -> None:
        super().__init__()
        o, (height, width) = options, options.size
        factor = 2 ** (len(o.widths) - 1)
        classes = o.classes if o.conditional_norm else 0
        self.shape = (o.widths[0], height // factor, width // factor)
        self.start = nn.Linear(joined, math.prod(self.shape))
        self.norm = _norm(o.widths[0], classes, o.norm, 1e-5)  # whatever the others have, as in the published code
        self.stages = nn.ModuleList(
            Stage(before, width, _norm(width, classes, o.norm, o.eps), o.activation)
            for before, width in itertools.pairwise(o.widths)
        )
        self.last = nn.Conv2d(o.widths[-1], o.channels, 3, padding=1)

    def forward(self, x: Tensor, classes: Tensor) -> Tensor:
        """(N, joined) and (N,) int64 -> (N, C, H, W), before the last activation."""
        result: Tensor = self.last(self.features(x, classes, len(self.stages)))
        return result

    def features(self, x: Tensor, classes: Tensor, stages: int) -> Tensor:
        """(N, joined) and (N,) int64 -> the map after so many stages; the small map for 0."""
        x = _normalised(self.norm, self.start(x).unflatten(1, self.shape), classes)
        for stage in self.stages[:stages]:
            x = stage(x, classes)
        return x


class DenseBody(nn.Module):
    """Dense layers to all pixels; arguments as in :class:`ConvolutionalBody`, ``widths`` of the hidden layers."""

    def __init__(self, joined: int, options: CGANOptions) -> None:
        super().__init__()
        o = options
        self.shape = (o.channels, *o.size)
        self.layers = nn.Sequential(
            *dense((joined, *o.widths), o.activation, norm=o.norm, eps=o.eps),
            nn.Linear(o.widths[-1], math.prod(self.shape)),
        )

    def forward(self, x: Tensor, classes: Tensor) -> Tensor:
        """(N, joined) -> (N, C, H, W), before the last activation; the classes are in the input."""
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
        self.body = make(o.latent + o.embedding, o)
        self.last = last_activation(o.output)

    def forward(self, latents: Tensor, classes: Tensor) -> Tensor:
        """(N, latent) standard normal and (N,) int64 -> (N, C, H, W) in the value range."""
        result: Tensor = self.last(self.body(self.joined(latents, classes), classes))
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
