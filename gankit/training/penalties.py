"""Limits on a discriminator's slope: gradient penalties and clipped weights."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

Discriminator = Callable[[Tensor], Tensor]


def gradient_penalty(discriminator: Discriminator, real: Tensor, fake: Tensor, target: float = 1.0) -> Tensor:
    """Mean of (‖∇D(x̂)‖₂ - target)², x̂ anywhere between a real and a made image.

    Gulrajani et al. 2017 (arXiv:1704.00028, eq. 3). One x̂ = ε·real + (1 - ε)·fake a pair, ε uniform in [0, 1]. The
    discriminator must treat every image by itself: no BatchNorm.

    Args:
        discriminator: (N, ...) -> logits; a closure, where it has further arguments.
        real: (N, ...).
        fake: the same shape; no gradient flows into it.
        target: the norm that is asked for: 1 in the paper, 0 for a penalty on any slope.
    """
    share = torch.rand(real.shape[0], *[1] * (real.ndim - 1), device=real.device, dtype=real.dtype)
    between = torch.lerp(fake.detach(), real.detach(), share)
    result: Tensor = (_slopes(discriminator, between).norm(dim=1) - target).square().mean()
    return result


def r1_penalty(discriminator: Discriminator, real: Tensor) -> Tensor:
    """½·mean of ‖∇D(x)‖² over real images (Mescheder et al. 2018, arXiv:1801.04406, eq. 9).

    Args:
        discriminator: (N, ...) -> logits.
        real: (N, ...).
    """
    return _slopes(discriminator, real.detach()).square().sum(dim=1).mean() / 2


@torch.no_grad()
def clip_weights(module: nn.Module, limit: float) -> None:
    """Clamp every parameter to [-limit, limit] (Arjovsky et al. 2017, arXiv:1701.07875, algorithm 1, line 7)."""
    for parameter in module.parameters():
        parameter.clamp_(-limit, limit)


def _slopes(discriminator: Discriminator, images: Tensor) -> Tensor:
    """(N, P) fp32: the gradient of the sum of the logits by every pixel, itself differentiable."""
    images = images.clone().requires_grad_(True)
    (slopes,) = torch.autograd.grad(discriminator(images).float().sum(), images, create_graph=True)
    return slopes.float().flatten(1)
