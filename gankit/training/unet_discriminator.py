"""A discriminator that judges every pixel: the U-Net of Real-ESRGAN (Wang et al. 2021, arXiv:2107.10833, figure 6)."""

from __future__ import annotations

import itertools

from torch import Tensor, nn
from torch.nn import functional as F

from gankit.training.spectral import add_spectral_norm

_SLOPE = 0.2


class UNetDiscriminator(nn.Module):
    """Three halvings, three enlargements with a sum across each, and a logit for every pixel.

    A logit for each pixel says where an image looks made, which one logit for all of it cannot. Spectral normalisation
    (Miyato et al. 2018, arXiv:1802.05957) of all convolutions but the first and the last keeps the game steady.

    Args:
        in_channels: colour channels of the image.
        channels: width at full resolution (64 in the paper); eight times as much at the lowest one.
        spectral: whether to normalise.
    """

    def __init__(self, in_channels: int = 3, channels: int = 64, *, spectral: bool = True) -> None:
        super().__init__()
        widths = [channels * 2**level for level in range(4)]
        pairs = list(itertools.pairwise(widths))
        self.first = nn.Conv2d(in_channels, channels, 3, padding=1)
        self.down = nn.ModuleList(nn.Conv2d(a, b, 4, stride=2, padding=1, bias=False) for a, b in pairs)
        self.up = nn.ModuleList(nn.Conv2d(b, a, 3, padding=1, bias=False) for a, b in reversed(pairs))
        self.refine = nn.ModuleList(nn.Conv2d(channels, channels, 3, padding=1, bias=False) for _ in range(2))
        self.last = nn.Conv2d(channels, 1, 3, padding=1)
        if spectral:
            for part in (self.down, self.up, self.refine):
                add_spectral_norm(part)

    def forward_features(self, x: Tensor) -> list[Tensor]:
        """The outputs of the four levels on the way down, for feature matching, then the input of the last layer.

        Args:
            x: (N, C, H, W) in [0, 1], sides of 8 and more.
        """
        levels = [F.leaky_relu(self.first(x), _SLOPE)]
        for convolution in self.down:
            levels.append(F.leaky_relu(convolution(levels[-1]), _SLOPE))
        y = levels[-1]
        for convolution, beside in zip(self.up, reversed(levels[:-1]), strict=True):
            y = F.interpolate(y, size=beside.shape[-2:], mode="bilinear", align_corners=False)
            y = F.leaky_relu(convolution(y), _SLOPE) + beside
        for convolution in self.refine:
            y = F.leaky_relu(convolution(y), _SLOPE)
        return [*levels, y]

    def classify(self, features: Tensor) -> Tensor:
        """(N, 1, H, W) logits from the input of the last layer."""
        result: Tensor = self.last(features)
        return result

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) in [0, 1] -> (N, 1, H, W) logits; large means real."""
        return self.classify(self.forward_features(x)[-1])
