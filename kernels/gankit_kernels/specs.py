"""Everything about a call that is no tensor, one frozen record for each operation.

The public functions, the references and the launches of the kernels share them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from gankit_kernels.tensors import memory_format

FULL_SCALE = {torch.uint8: 255.0, torch.uint16: 65535.0}


@dataclass(frozen=True)
class NormSpec:
    """Everything about a normalisation that is no tensor.

    Attributes:
        activation: Name of the activation after the affine transform.
        slope: LeakyReLU's slope below zero.
        pad: Width of the reflected border around the result, in pixels.
        eps: Added to the variance.
        whole: Whether the statistics are those of all channels of an image (GroupNorm with one group), not of each
            plane.
    """

    activation: str = "none"
    slope: float = 0.01
    pad: int = 0
    eps: float = 1e-5
    whole: bool = False

    def empty(self, x: Tensor) -> Tensor:
        """An empty tensor for the result, in the layout of ``x``."""
        samples, channels, height, width = x.shape
        shape = (samples, channels, height + 2 * self.pad, width + 2 * self.pad)
        return torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=memory_format(x))


@dataclass(frozen=True)
class ShuffleSpec:
    """Everything about a shuffle that is no tensor.

    Attributes:
        r: Upscaling factor of both sides.
        activation: Name of the activation after the shuffle; ``"none"`` beside PReLU's slopes.
        slope: LeakyReLU's slope below zero.
        dcr: Whether the source's channels are in the order (sub-row, sub-column, channel).
    """

    r: int
    activation: str = "none"
    slope: float = 0.01
    dcr: bool = False

    def empty(self, x: Tensor) -> Tensor:
        """An empty tensor for the result, in the layout of ``x``."""
        samples, channels, height, width = x.shape
        shape = (samples, channels // (self.r * self.r), height * self.r, width * self.r)
        return torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=memory_format(x))


@dataclass(frozen=True)
class EpilogueSpec:
    """Everything about an epilogue that is no tensor.

    Attributes:
        activation: Name of the activation; ``"none"`` beside PReLU's slopes.
        slope: LeakyReLU's slope below zero.
        scale: Factor of the result before the residual is added.
        before: Whether the residual is added before the activation.
        pads: Widths of the reflected border (left, right, top, bottom) around the result, in pixels.
    """

    activation: str = "none"
    slope: float = 0.01
    scale: float = 1.0
    before: bool = False
    pads: Sequence[int] = (0, 0, 0, 0)

    @property
    def padded(self) -> bool:
        """Whether there is a border."""
        return any(self.pads)

    def without_border(self) -> EpilogueSpec:
        """The same without the border."""
        return replace(self, pads=(0, 0, 0, 0))

    def empty(self, x: Tensor) -> Tensor:
        """An empty tensor for the result, in the layout of ``x``."""
        samples, channels, height, width = x.shape
        left, right, top, bottom = self.pads
        shape = (samples, channels, top + height + bottom, left + width + right)
        return torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=memory_format(x))


@dataclass(frozen=True)
class SpreadSpec:
    """Everything about an epilogue for several tensors that is no tensor.

    Attributes:
        activation: Name of the activation; ``"none"`` beside PReLU's slopes.
        slope: LeakyReLU's slope below zero.
        scale: Factor of the result before the residual is added.
        before: Whether the residual is added before the activation.
        first: Number of channels of the targets before those that are written.
    """

    activation: str = "none"
    slope: float = 0.01
    scale: float = 1.0
    before: bool = False
    first: int = 0


@dataclass(frozen=True)
class ValuesSpec:
    """Everything about a conversion to values that is no tensor.

    Attributes:
        low: Value of pixel 0.
        high: Value of a full-scale pixel, 255 or 65535.
        dtype: Dtype of the values.
        last: Whether the values are channels_last.
    """

    low: float
    high: float
    dtype: torch.dtype
    last: bool

    def empty(self, pixels: Tensor) -> Tensor:
        """An empty tensor for values."""
        samples, height, width, channels = pixels.shape
        layout = torch.channels_last if self.last else torch.contiguous_format
        shape = (samples, channels, height, width)
        return torch.empty(shape, dtype=self.dtype, device=pixels.device, memory_format=layout)


@dataclass(frozen=True)
class PixelsSpec:
    """Everything about a conversion to pixels that is no tensor.

    Attributes:
        low: Value that becomes pixel 0.
        high: Value that becomes a full-scale pixel, 255 or 65535.
        dtype: Dtype of the pixels.
    """

    low: float
    high: float
    dtype: torch.dtype

    def empty(self, values: Tensor) -> Tensor:
        """An empty tensor for pixels."""
        samples, channels, height, width = values.shape
        return torch.empty((samples, height, width, channels), dtype=self.dtype, device=values.device)


@dataclass(frozen=True)
class BlendSpec:
    """Everything about blending that is no tensor.

    Attributes:
        tops: First row of the image that each row of tiles covers.
        lefts: First column of the image that each column of tiles covers.
        height: Height of the image.
        width: Width of the image.
        ramp: Number of pixels over which a tile's weight rises from its edge.
    """

    tops: Sequence[int]
    lefts: Sequence[int]
    height: int
    width: int
    ramp: int

    def empty(self, tiles: Tensor) -> Tensor:
        """An empty tensor for the image."""
        return tiles.new_empty((tiles.shape[1], self.height, self.width))
