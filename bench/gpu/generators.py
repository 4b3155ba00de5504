"""The generators and images of the steps; no image library is needed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

if TYPE_CHECKING:
    from gankit.models.facts import Facts

SMALL: Mapping[str, Mapping[str, Any]] = {
    "srgan": {"channels": 16, "blocks": 2},
    "edsr": {"channels": 16, "blocks": 2},
    "esrgan": {"channels": 16, "growth": 8, "blocks": 1},
    "cyclegan": {"channels": 16, "blocks": 2},
    "pix2pix": {"channels": 16, "downs": 5},
    "animegan": {"channels": 16, "blocks": 1},
    "srvgg": {"channels": 16},
}


def generator(name: str, *, small: bool) -> tuple[nn.Module, Facts]:
    """A generator with fresh weights, in eval mode, and its facts.

    Args:
        name: of the model.
        small: with few channels and blocks, for a rehearsal.
    """
    from gankit import models

    torch.manual_seed(0)
    options = SMALL[name] if small else {}
    return models.build(name, options).eval().requires_grad_(False), models.facts(name, options)


def image(count: int, height: int, width: int) -> Tensor:
    """Smooth shapes with some grain, (N, 3, H, W) uint8, channels_last in memory, the same every time."""
    source = torch.Generator().manual_seed(1)
    total = torch.zeros(count, 3, height, width)
    for cells in (2, 8, 32):
        noise = torch.rand(count, 3, cells, cells, generator=source)
        total += F.interpolate(noise, (height, width), mode="bilinear", align_corners=True) / 3
    total += 0.03 * torch.randn(count, 3, height, width, generator=source)
    return (total * 255).clamp(0, 255).to(torch.uint8).contiguous(memory_format=torch.channels_last)
