"""Losses as pure functions of tensors; each returns a scalar. Those of a game are in ``adversarial``, and here too."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from gankit.training.adversarial import (
    ADVERSARIAL,
    AdversarialLoss,
    bce_discriminator,
    hinge_discriminator,
    hinge_generator,
    lsgan_discriminator,
    lsgan_generator,
    minimax_generator,
    nonsaturating_generator,
    relativistic_discriminator,
    relativistic_generator,
    wasserstein_discriminator,
    wasserstein_generator,
)

__all__ = [
    "ADVERSARIAL",
    "AdversarialLoss",
    "bce_discriminator",
    "bce_pixels",
    "charbonnier",
    "consistency",
    "feature_matching",
    "hinge_discriminator",
    "hinge_generator",
    "kl_standard_normal",
    "l1",
    "lsgan_discriminator",
    "lsgan_generator",
    "minimax_generator",
    "mse",
    "nonsaturating_generator",
    "reduced",
    "relativistic_discriminator",
    "relativistic_generator",
    "wasserstein_discriminator",
    "wasserstein_generator",
]


def l1(result: Tensor, target: Tensor) -> Tensor:
    """Mean absolute error, mean(|x - y|)."""
    return F.l1_loss(result, target)


def mse(result: Tensor, target: Tensor) -> Tensor:
    """Mean squared error, mean((x - y)²): the content loss of SRResNet (Ledig et al. 2017, eq. 4)."""
    return F.mse_loss(result, target)


def charbonnier(result: Tensor, target: Tensor, epsilon: float = 1e-3) -> Tensor:
    """mean(sqrt((x - y)² + ε²)), a smooth L1 (Lai et al. 2017, arXiv:1704.03915, eq. 3)."""
    return torch.sqrt((result - target).square() + epsilon**2).mean()


def bce_pixels(result: Tensor, target: Tensor) -> Tensor:
    """-y·log x - (1 - y)·log(1 - x), summed over an image's pixels, mean over images.

    The reconstruction term of a VAE of Bernoulli pixels (Kingma and Welling 2014, arXiv:1312.6114, appendix C.1).
    Computed in fp32 whatever the arithmetic around it: the logarithms are of values close to 0 and to 1.

    Args:
        result: (N, ...) in [0, 1].
        target: the same shape, in [0, 1].
    """
    with torch.autocast(result.device.type, enabled=False):
        total = F.binary_cross_entropy(result.float(), target.float(), reduction="sum")
    return total / result.shape[0]


def kl_standard_normal(mean: Tensor, log_variance: Tensor) -> Tensor:
    """KL(N(μ, σ²) ‖ N(0, 1)) = ½·Σ(μ² + σ² - 1 - log σ²), mean over the batch.

    Kingma and Welling 2014 (arXiv:1312.6114, appendix B).

    Args:
        mean: μ, (N, ...).
        log_variance: log σ², the same shape.
    """
    each = mean.square() + log_variance.exp() - 1 - log_variance
    return each.sum() / 2 / mean.shape[0]


def feature_matching(result: Sequence[Tensor], target: Sequence[Tensor]) -> Tensor:
    """Mean over layers of the L1 distance of discriminator features, each divided by the target's mean magnitude.

    Wang et al. 2018 (arXiv:1711.11585, eq. 3); the division makes layers of any scale count alike.

    Args:
        result: features of the generated images, one tensor a layer.
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
    return F.l1_loss(reduced(result, scale), low.float())


def reduced(images: Tensor, scale: int) -> Tensor:
    """(N, C, scale·H, scale·W) -> (N, C, H, W) fp32, by antialiased bicubic."""
    return F.interpolate(images.float(), scale_factor=1 / scale, mode="bicubic", antialias=True)
