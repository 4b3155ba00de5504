"""The cost of a generator: parameters and multiply-accumulates, counted without computing anything."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode


@dataclass(frozen=True)
class Cost:
    """The cost of one image.

    Attributes:
        parameters: number of trainable values; running statistics and fixed filters do not count.
        macs: multiply-accumulates of convolutions and matrix products. A transposed convolution costs input pixels
            times kernel area times input and output channels, which are the products that are computed. Many tables
            count it at the output's size, with its products with zeros (CycleGAN at 256×256: 56.8 G, of which 49.6 G
            are computed). Norms, activations and resampling are not counted.
    """

    parameters: int
    macs: int


def cost(generator: nn.Module, size: int | tuple[int, ...], *, channels: int = 3, conditional: bool = False) -> Cost:
    """Count the cost of one input.

    Args:
        generator: any module; it is not run and not changed.
        size: the side of a square input in pixels, or the shape of an input without the batch, as (C, H, W) or (C,).
        channels: of a square input.
        conditional: whether the generator takes classes beside the input.
    """
    shape = (channels, size, size) if isinstance(size, int) else size
    shapes = _without_values(generator).eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        classes = [torch.zeros(1, dtype=torch.int64, device="meta")] if conditional else []
        shapes(torch.empty(1, *shape, device="meta"), *classes)
    # the counter counts a multiplication and an addition separately
    return Cost(sum(item.numel() for item in generator.parameters()), counter.get_total_flops() // 2)


def _without_values(module: nn.Module) -> nn.Module:
    """A copy whose tensors have shapes, but no values."""
    memo: dict[int, Tensor] = {}
    for parameter in module.parameters():
        memo[id(parameter)] = nn.Parameter(torch.empty_like(parameter, device="meta"), requires_grad=False)
    for buffer in module.buffers():
        memo[id(buffer)] = torch.empty_like(buffer, device="meta")
    return copy.deepcopy(module, memo)
