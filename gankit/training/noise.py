"""Instance noise: real and made images that overlap, so that the discriminator cannot be sure too soon."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def instance_noise(x: Tensor, deviation: float) -> Tensor:
    """X + N(0, deviation²), for what the discriminator sees, real or made.

    Sønderby et al. 2017 (arXiv:1610.04490, section 3.2); Arjovsky and Bottou 2017 (arXiv:1701.04862).

    Args:
        x: any shape.
        deviation: 0 gives back ``x`` itself.
    """
    return x + deviation * torch.randn_like(x) if deviation else x


def fading(deviation: float, steps: int) -> Callable[[int], float]:
    """The deviation by step: ``deviation`` at first, falling linearly to 0 at ``steps``, 0 from there on."""
    return lambda step: deviation * max(0.0, 1 - step / steps) if steps > 0 else 0.0
