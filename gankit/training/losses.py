"""Losses as pure functions of tensors; each returns a scalar."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F


def l1(result: Tensor, target: Tensor) -> Tensor:
    """Mean absolute error, mean(|x - y|)."""
    return F.l1_loss(result, target)


def mse(result: Tensor, target: Tensor) -> Tensor:
    """Mean squared error, mean((x - y)²): the content loss of SRResNet (Ledig et al. 2017, eq. 4)."""
    return F.mse_loss(result, target)


def charbonnier(result: Tensor, target: Tensor, epsilon: float = 1e-3) -> Tensor:
    """mean(sqrt((x - y)² + ε²)), a smooth L1 (Lai et al. 2017, arXiv:1704.03915, eq. 3)."""
    return torch.sqrt((result - target).square() + epsilon**2).mean()


def relativistic_discriminator(real: Tensor, fake: Tensor) -> Tensor:
    """Relativistic average loss of the discriminator (Jolicoeur-Martineau 2018, arXiv:1807.00734).

    -log σ(real - mean(fake)) - log(1 - σ(fake - mean(real))), halved as ESRGAN does.
    """
    return (F.softplus(-(real - fake.mean())).mean() + F.softplus(fake - real.mean()).mean()) / 2


def relativistic_generator(real: Tensor, fake: Tensor) -> Tensor:
    """Relativistic average loss of the generator: the discriminator's with the roles exchanged."""
    return relativistic_discriminator(fake, real)


def feature_matching(result: Sequence[Tensor], target: Sequence[Tensor]) -> Tensor:
    """Mean over layers of the L1 distance of discriminator features, each divided by the target's mean magnitude.

    Wang et al. 2018 (arXiv:1711.11585, eq. 3); the division makes layers of any scale count alike.

    Args:
        result: features of the generated pictures, one tensor a layer.
        target: features of the real ones; no gradient flows into them.
    """
    if not result or len(result) != len(target):
        raise ValueError(f"{len(result)} and {len(target)} layers of features: need as many, and at least one")
    total = result[0].new_zeros((), dtype=torch.float32)
    for ours, theirs in zip(result, target, strict=True):
        theirs = theirs.detach().float()
        total = total + F.l1_loss(ours.float(), theirs) / theirs.abs().mean().clamp_min(1e-6)
    return total / len(result)


def consistency(result: Tensor, low: Tensor, scale: int) -> Tensor:
    """L1 between the antialiased bicubic reduction of the result and the input: keeps colours and coarse structure.

    Args:
        result: (N, C, scale·H, scale·W) in [0, 1].
        low: (N, C, H, W) in [0, 1].
        scale: reduction factor.
    """
    reduced = F.interpolate(result.float(), scale_factor=1 / scale, mode="bicubic", antialias=True)
    return F.l1_loss(reduced, low.float())
