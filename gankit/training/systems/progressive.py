"""Images that grow while a GAN trains: a quarter of the size, half, whole, each new size faded in.

Karras et al. 2018 (arXiv:1710.10196, section 2). The networks are those that ship: their own layers from the inside
out, with a 1×1 convolution from and to the colours at each smaller size, which is thrown away at the end.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gankit.errors import UsageError
from gankit.models import cgan, dcgan

LEVELS = 3  # whole, half and quarter size


@dataclass(frozen=True)
class Growth:
    """How far the images have grown.

    Attributes:
        level: how often the size is halved: 2, 1 or 0.
        part: how much of this level is seen; the rest is the level before it, enlarged.
    """

    level: int = 0
    part: float = 1.0


def growth(index: int, steps: int, share: float) -> Growth:
    """Where a step stands.

    The growing time is cut in four: a quarter of the size, half of it fading in, half of it alone, the whole fading in.

    Args:
        index: steps done.
        steps: of the whole run.
        share: of the steps in which the images grow; 0 for the whole size from the first step.
    """
    if not share:
        return Growth()
    phase = 4 * index / (share * steps)
    if phase < 1:
        return Growth(2)
    if phase < 3:
        return Growth(1, min(1.0, phase - 1))
    return Growth(0, min(1.0, phase - 3))


def lowered(x: Tensor, now: Growth) -> Tensor:
    """Whole-size images as the discriminator gets them now.

    Args:
        x: (N, C, H, W); sides multiples of 4.
        now: the growth.

    Returns:
        (N, C, H / 2^level, W / 2^level): the mean of each square; while a level fades in, as sharp as the generator's.
    """
    small = F.avg_pool2d(x, 2**now.level) if now.level else x
    if now.part == 1:
        return small
    return torch.lerp(_enlarged(F.avg_pool2d(small, 2)), small, now.part)


class GrowingGenerator(nn.Module):
    """A ``dcgan`` or convolutional ``cgan`` generator that can stop at a quarter or half of its size.

    Args:
        net: the generator; its own layers are trained.

    Attributes:
        now: how far it has grown; the recipe sets it.
        heads: 1×1 convolutions to the colours, at a quarter and at half of the size.

    Raises:
        UsageError: the net does not double its images twice.
    """

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net, self.now = net, Growth()
        self._parts, widths, colours = _generator_parts(net)
        self.heads = nn.ModuleList(nn.Conv2d(width, colours, 1) for width in widths)

    def forward(self, latents: Tensor, *classes: Tensor) -> Tensor:
        """(N, latent), and (N,) of a ``cgan`` -> (N, C, side, side) of the present size."""
        level, part = self.now.level, self.now.part
        to_quarter, to_half, to_whole = self._parts
        quarter = to_quarter(latents, *classes)
        if level == 2:
            return self._coloured(0, quarter)
        half = to_half(quarter, *classes)
        new = self._coloured(1, half) if level else to_whole(half, *classes)
        if part == 1:
            return new
        old = self._coloured(0, quarter) if level else self._coloured(1, half)
        return torch.lerp(_enlarged(old).to(new.dtype), new, part)

    def _coloured(self, index: int, features: Tensor) -> Tensor:
        return torch.tanh(self.heads[index](features))


class GrowingDiscriminator(nn.Module):
    """A ``dcgan`` or convolutional ``cgan`` discriminator that takes images of a quarter or half of its size too.

    Args:
        net: the discriminator; its own layers are trained.

    Attributes:
        now: how far it has grown; the recipe sets it.
        heads: 1×1 convolutions from the colours, at half and at a quarter of the size.

    Raises:
        UsageError: the net does not halve its images twice.
    """

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net, self.now = net, Growth()
        layers = list(net.main if isinstance(net, dcgan.Discriminator) else net.layers)  # type: ignore[arg-type]
        halving = [index for index, layer in enumerate(layers) if isinstance(layer, nn.Conv2d) and layer.stride[0] == 2]
        if not isinstance(net, dcgan.Discriminator | cgan.Discriminator) or len(halving) < 2:
            raise UsageError("the images can grow only in a net that halves them twice: omit --progressive")
        self._first, self._second = slice(0, halving[1]), slice(halving[1], _after(layers, halving))
        self._rest = slice(self._second.stop, None)
        colours = layers[0].in_channels
        self.heads = nn.ModuleList(
            nn.Sequential(nn.Conv2d(colours, layers[index].out_channels, 1), nn.LeakyReLU(0.2)) for index in halving[:2]
        )

    def forward(self, x: Tensor, *classes: Tensor) -> Tensor:
        """(N, C, side, side) of the present size, and (N,) of a ``cgan`` -> (N, 1)."""
        net = self.net
        if isinstance(net, cgan.Discriminator):
            embedding: Any = net.embedding
            known = embedding(classes[0]).unflatten(1, net.shape)
            x = torch.cat([x, F.avg_pool2d(known, 2**self.now.level) if self.now.level else known], 1)
        layers: Any = net.main if isinstance(net, dcgan.Discriminator) else net.layers
        features = self._features(layers, x)
        return net.logits(features, *classes) if isinstance(net, cgan.Discriminator) else features.flatten(1)

    def _features(self, layers: nn.Sequential, x: Tensor) -> Tensor:
        level, part = self.now.level, self.now.part
        rest: Any = layers[self._rest]
        if isinstance(self.net, cgan.Discriminator):
            rest = rest[:-1]
        result: Tensor
        if level == 2:
            result = rest(self.heads[1](x))
            return result
        new = self.heads[0](x) if level else layers[self._first](x)
        if level:
            new = layers[self._second](new)
        if part < 1:
            old = self.heads[1 if level else 0](F.avg_pool2d(x, 2))
            new = torch.lerp(old.to(new.dtype), new, part)
        result = rest(new if level else layers[self._second](new))
        return result


class GrowthState:
    """How far some networks have grown, to be set for all at once and kept in checkpoints.

    Args:
        nets: they.
    """

    def __init__(self, *nets: GrowingGenerator | GrowingDiscriminator) -> None:
        self._nets = nets

    def set(self, now: Growth) -> None:
        """All have grown so far."""
        for net in self._nets:
            net.now = now

    def state_dict(self) -> dict[str, Any]:
        """The growth of now."""
        return asdict(self._nets[0].now)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take up what :meth:`state_dict` gave."""
        self.set(Growth(int(state["level"]), float(state["part"])))


def _generator_parts(net: nn.Module) -> tuple[tuple[Callable[..., Tensor], ...], tuple[int, int], int]:
    """What makes a quarter of the size, half of that, the image of half; channels of the first two; colours."""
    if isinstance(net, dcgan.Generator):
        main: Any = net.main
        doubling = [index for index, layer in enumerate(main) if isinstance(layer, nn.ConvTranspose2d)]
        if len(doubling) >= 3:
            half, whole = doubling[-2:]
            parts: tuple[Callable[..., Tensor], ...] = (
                lambda latents: main[:half](latents[:, :, None, None]),
                lambda quarter: main[half:whole](quarter),
                lambda features: main[whole:](features),
            )
            return parts, (main[half].in_channels, main[whole].in_channels), main[whole].out_channels
    if isinstance(net, cgan.Generator) and isinstance(net.body, cgan.ConvolutionalBody) and len(net.body.stages) >= 2:
        body: Any = net.body
        parts = (
            lambda latents, classes: body.features(net.joined(latents, classes), classes, len(body.stages) - 2),
            lambda quarter, classes: body.stages[-2](quarter, classes),
            lambda features, classes: net.last(body.last(body.stages[-1](features, classes))),
        )
        widths = (body.stages[-2].conv.in_channels, body.stages[-1].conv.in_channels)
        return parts, widths, body.last.out_channels
    raise UsageError("the images can grow only in a net that doubles them twice: omit --progressive")


def _after(layers: list[nn.Module], halving: list[int]) -> int:
    """Where the second halving's norm and activation end: at the next layer with a matrix, or the flattening."""
    following = range(halving[1] + 1, len(layers))
    return next(index for index in following if isinstance(layers[index], nn.Conv2d | nn.Linear | nn.Flatten))


def _enlarged(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2.0, mode="nearest")
