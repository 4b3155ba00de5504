"""A measurement in place of an assumption: a trained upscaler that is run rightly keeps a smooth image."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from gankit import models
from gankit.checkpoints.layouts.base import Match

_SIDE, _BORDER = 32, 2  # pixels
CLEAR, AHEAD = 30.0, 10.0  # dB that a right reading has, and by which it is ahead of a wrong one


def fidelity(match: Match) -> float:
    """How well an upscaler keeps a smooth colour image, which any of them should.

    With the right range of values, trained networks keep it to 40 dB and more; with a wrong one, to less than 27 dB.

    Args:
        match: a reading of the weights.

    Returns:
        PSNR in dB between the image and the averaged-down result, less a border; minus infinity where the network does
        not run.
    """
    try:
        with torch.device("meta"):
            generator = models.build(match.model, match.options).eval()
        weights = {name: value.float() for name, value in match.state.items()}
        generator.load_state_dict(weights, strict=False, assign=True)
        channels = models.facts(match.model, match.options).channels
        image = _smooth(channels)
        with torch.inference_mode():
            made = F.adaptive_avg_pool2d(generator(image), _SIDE)
        inner = slice(_BORDER, -_BORDER)
        error = (made - image)[..., inner, inner].square().mean().item()
    except (RuntimeError, ValueError, TypeError, NotImplementedError):  # a tensor that does not fit is reported later
        return -math.inf
    return -10 * math.log10(max(error, 1e-12)) if math.isfinite(error) else -math.inf


def _smooth(channels: int) -> Tensor:
    """(1, C, 32, 32) in [0.2, 0.8]; another gradient in every channel."""
    line = torch.linspace(0, 1, _SIDE)
    y, x = torch.meshgrid(line, line, indexing="ij")
    planes = [0.2 + 0.6 * x, 0.25 + 0.5 * y, 0.5 + 0.25 * torch.sin(3 * (x + y))]
    return torch.stack([planes[index % 3] for index in range(channels)])[None]
