"""uint8 pixels in and out of a generator: scale, layout, clamp and rounding become part of its graph."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from gankit_export.parity import Batch

PIXEL_RANGE = (0.0, 255.0)
"""The value range of uint8 pixels."""


class PixelOutput(nn.Module):
    """A generator of latents that gives uint8 pixels.

    Args:
        inner: latents (and classes) to (N, C, H, W) float32 in the value range.
        value_range: lowest and highest value, which become 0 and 255.
    """

    def __init__(self, inner: nn.Module, value_range: tuple[float, float]) -> None:
        super().__init__()
        self.inner = inner
        self.low, self.high = value_range

    def forward(self, x: Tensor) -> Tensor:
        """(N, latent) float32 in, (N, H, W, C) uint8 out, clamped and rounded half to even."""
        return self.pixels(self.inner(x))

    def pixels(self, values: Tensor) -> Tensor:
        """(N, C, H, W) float32 in the value range -> (N, H, W, C) uint8."""
        if self.low:
            values = values - self.low
        if (factor := 255.0 / (self.high - self.low)) != 1.0:
            values = values * factor
        return values.clamp(0.0, 255.0).round().permute(0, 2, 3, 1).to(torch.uint8)


class ConditionalPixelOutput(PixelOutput):
    """:class:`PixelOutput` with a class beside the latent."""

    def forward(self, x: Tensor, classes: Tensor) -> Tensor:  # type: ignore[override]
        """(N, latent) float32 and (N,) int64 in, (N, H, W, C) uint8 out."""
        return self.pixels(self.inner(x, classes))


class PixelEdges(PixelOutput):
    """A generator that takes and gives uint8 pixels."""

    def forward(self, x: Tensor) -> Tensor:
        """(N, H, W, C) uint8 in, (N, H', W', C') uint8 out."""
        values = x.float()
        if (factor := (self.high - self.low) / 255.0) != 1.0:
            values = values * factor
        if self.low:
            values = values + self.low
        return self.pixels(self.inner(values.permute(0, 3, 1, 2).contiguous()))


def with_pixel_edges(
    module: nn.Module, value_range: tuple[float, float], *, latents: bool = False, conditional: bool = False
) -> nn.Module:
    """Wrap a generator so that it gives uint8 pixels and, if it takes images, takes them.

    Args:
        module: generator with float32 edges, in its final precision. The conversion computes in float32.
        value_range: of the generator, lowest and highest.
        latents: whether it takes latents.
        conditional: whether it takes classes beside them.
    """
    kind = (ConditionalPixelOutput if conditional else PixelOutput) if latents else PixelEdges
    return kind(module, value_range).eval()


def pixel_batch(batch: Batch, value_range: tuple[float, float]) -> NDArray[np.uint8]:
    """(N, C, H, W) float32 in a value range -> (N, H, W, C) uint8, rounded half to even."""
    low, high = value_range
    pixels = ((batch - low) * (255.0 / (high - low))).clip(0, 255).round().astype(np.uint8)
    return np.ascontiguousarray(pixels.transpose(0, 2, 3, 1))
