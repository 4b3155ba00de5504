"""The anti-aliased resampling of CUT (Park et al., ECCV 2020), after Zhang, ICML 2019, arXiv:1904.11486."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Downsample(nn.Module):
    """Halve the size: reflect padding, then the binomial filter [1, 2, 1] ⊗ [1, 2, 1] / 16 at every second pixel.

    Args:
        channels: of the input; each is filtered by itself.
    """

    filt: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels
        self.pad = nn.ReflectionPad2d(1)
        self.register_buffer("filt", _filter((1.0, 2.0, 1.0), channels))  # CUT's files hold it, so gankit's do, too

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, ceil(H / 2), ceil(W / 2))."""
        return F.conv2d(self.pad(x), self.filt, stride=2, groups=self.channels)


class Upsample(nn.Module):
    """Double the size: replicate padding, then the filter [1, 3, 3, 1] ⊗ [1, 3, 3, 1] / 16, transposed.

    Args:
        channels: of the input; each is filtered by itself.
    """

    filt: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels
        self.pad = nn.ReplicationPad2d(1)
        self.register_buffer("filt", 4 * _filter((1.0, 3.0, 3.0, 1.0), channels))

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, 2H, 2W)."""
        # CUT's code has padding 2 and crops one pixel on each side, which is the same as padding 3.
        return F.conv_transpose2d(self.pad(x), self.filt, stride=2, padding=3, groups=self.channels)


def _filter(taps: tuple[float, ...], channels: int) -> Tensor:
    """Filters of (C, 1, k, k); each sums to 1."""
    line = torch.tensor(taps) / sum(taps)
    return torch.outer(line, line).repeat(channels, 1, 1, 1)
