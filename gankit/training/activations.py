"""A PReLU that trains faster on a CPU."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class _SharedPReLU(torch.autograd.Function):
    """PReLU with one slope by the vectorised LeakyReLU kernels: torch's own backward takes three times as long."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, slope: Tensor) -> Tensor:
        ctx.slope = slope.item()
        ctx.save_for_backward(x)
        return F.leaky_relu(x, ctx.slope)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor]:
        (grad,) = grads
        (x,) = ctx.saved_tensors
        below = (grad * x.clamp(max=0)).sum(dtype=torch.float32).reshape(1)
        return torch.ops.aten.leaky_relu_backward(grad, x, ctx.slope, False), below


def shared_prelu(x: Tensor, layer: nn.PReLU) -> Tensor:
    """``layer(x)`` for a PReLU with one slope, with the same gradients."""
    if x.is_cuda or layer.num_parameters != 1:
        return F.prelu(x, layer.weight.to(x.dtype))
    result: Tensor = _SharedPReLU.apply(x, layer.weight)
    return result
