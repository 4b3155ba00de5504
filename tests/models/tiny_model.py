"""A model in one file, as a contributor would write it; the test adds its line to the registry."""

from dataclasses import dataclass

from torch import nn

from gankit.models.checks import Choice
from gankit.models.facts import Facts
from gankit.models.options import DEPTH, WIDTH, ModelOptions, option


@dataclass(frozen=True)
class TinyOptions(ModelOptions):
    """Options of a plain upscaler."""

    scale: int = option(2, Choice((2, 3, 4)), "Enlargement")
    channels: int = option(8, WIDTH, "Width of the body")
    depth: int = option(2, DEPTH, "Convolutions of the body")
    activation: str = option("relu", Choice(("relu", "tanh")), "Activation after every convolution", omit=True)

    def facts(self, name):
        """See the base class."""
        return Facts(
            name=name,
            paper="Nobody 2024",
            task="upscale",
            scale=self.scale,
            value_range=(0, 1),
            tileable=True,
            options=self.stored(),
        )


class Tiny(nn.Module):
    """3×3 convolutions and a PixelShuffle."""

    Options = TinyOptions

    def __init__(self, options=None):
        super().__init__()
        o = options or TinyOptions()
        act = nn.ReLU if o.activation == "relu" else nn.Tanh
        layers = [nn.Conv2d(3, o.channels, 3, padding=1), act()]
        for _ in range(o.depth - 1):
            layers += [nn.Conv2d(o.channels, o.channels, 3, padding=1), act()]
        self.net = nn.Sequential(*layers, nn.Conv2d(o.channels, 3 * o.scale**2, 3, padding=1))
        self.shuffle = nn.PixelShuffle(o.scale)

    def forward(self, x):
        """(N, 3, H, W) -> (N, 3, scale·H, scale·W)."""
        return self.shuffle(self.net(x))
