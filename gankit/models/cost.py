"""What a generator costs: parameters and multiply-accumulates, counted without computing anything."""

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
        parameters: trained numbers; running statistics and fixed filters are none.
        macs: multiply-accumulates of convolutions and matrix products. A transposed convolution costs input pixels
            times kernel area times input and output channels: the products that are really made. Many tables charge it
            at the output's size, which counts products with zeros (CycleGAN at 256×256: 56.8 G, where 49.6 G are
            made). Norms, activations and resampling are not counted.
    """

    parameters: int
    macs: int


def cost(generator: nn.Module, size: int | tuple[int, ...], *, channels: int = 3, conditional: bool = False) -> Cost:
    """Count the cost of one input.

    Args:
        generator: any; it is not run and not changed.
        size: the side of a square input in pixels, or the shape of an input without the batch, as (C, H, W) or (C,).
        channels: of a square input.
        conditional: it takes a class beside the input.
    """
    shape = (channels, size, size) if isinstance(size, int) else size
    shapes = _without_values(generator).eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        classes = [torch.zeros(1, dtype=torch.int64, device="meta")] if conditional else []
        shapes(torch.empty(1, *shape, device="meta"), *classes)
    # it counts a multiplication and an addition apart
    return Cost(sum(item.numel() for item in generator.parameters()), counter.get_total_flops() // 2)


def _without_values(module: nn.Module) -> nn.Module:
    """A copy whose tensors have shapes and nothing else."""
    memo: dict[int, Tensor] = {}
    for parameter in module.parameters():
        memo[id(parameter)] = nn.Parameter(torch.empty_like(parameter, device="meta"), requires_grad=False)
    for buffer in module.buffers():
        memo[id(buffer)] = torch.empty_like(buffer, device="meta")
    return copy.deepcopy(module, memo)
