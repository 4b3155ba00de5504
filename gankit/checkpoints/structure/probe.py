"""A measurement in place of an assumption: what a trained network shows of how it was trained.

An upscaler keeps a smooth image, if it is run rightly; and what reaches a BatchNorm has the variance that it remembers.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gankit import models
from gankit.checkpoints.layouts.base import Match
from gankit.models.sampling import latents

_SIDE, _BORDER = 32, 2  # pixels
_LATENTS = 64


@dataclass(frozen=True)
class Measure:
    """How to tell a right reading of a trained network from a wrong one.

    Attributes:
        score: of a match; more is better, minus infinity where the network does not run.
        clear: the score that a right reading has at least.
        ahead: by how much a reading must be better than the usual one to be taken in its place.
        words: says a score, in a few words.
    """

    score: Callable[[Match], float]
    clear: float
    ahead: float
    words: Callable[[float], str]


def _fidelity(match: Match) -> float:
    """PSNR in dB between a smooth colour image and the averaged-down result, less a border.

    With the right range of values, trained upscalers keep it to 40 dB and more; with a wrong one, to less than 27 dB.
    """
    image = _smooth(models.facts(match.model, match.options).channels)
    with torch.inference_mode():
        made = F.adaptive_avg_pool2d(_generator(match)(image), _SIDE)
    inner = slice(_BORDER, -_BORDER)
    error = (made - image)[..., inner, inner].square().mean().item()
    return -10 * math.log10(max(error, 1e-12)) if math.isfinite(error) else -math.inf


def _agreement(match: Match) -> float:
    """How well the variances in front of the BatchNorms agree with the remembered ones, in dB of the logarithm's error.

    Of the shipped and published networks, the right activation and epsilon give 15 to 34 dB, wrong ones less than 9.
    """
    generator, facts = _generator(match), models.facts(match.model, match.options)
    errors: list[float] = []

    def compare(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        seen = inputs[0].transpose(0, 1).flatten(1).var(1)
        remembered = layer.running_var
        assert isinstance(remembered, Tensor)
        errors.append(((seen + 1e-6).log() - (remembered + 1e-6).log()).abs().mean().item())

    for layer in generator.modules():
        if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
            layer.register_forward_pre_hook(compare)
    inputs = [torch.from_numpy(latents(0, range(_LATENTS), facts.latent))]
    inputs += [torch.arange(_LATENTS) % facts.classes] if facts.classes else []
    with torch.inference_mode():
        generator(*inputs)
    return -20 * math.log10(max(*errors, 1e-6)) if errors and math.isfinite(sum(errors)) else -math.inf


def _or_none(score: Callable[[Match], float]) -> Callable[[Match], float]:
    def safe(match: Match) -> float:
        try:
            return score(match)
        except (RuntimeError, ValueError, TypeError, NotImplementedError):  # what does not fit is reported later
            return -math.inf

    return safe


UPSCALER = Measure(_or_none(_fidelity), 30.0, 10.0, lambda score: f"with which a smooth image keeps {score:.0f} dB")
NORMS = Measure(
    _or_none(_agreement),
    8.0,
    6.0,
    lambda score: f"with which the BatchNorms see the variances that they remember to {10 ** (-score / 20):.0%}",
)


def _generator(match: Match) -> nn.Module:
    with torch.device("meta"):
        generator = models.build(match.model, match.options).eval()
    generator.load_state_dict({name: value.float() for name, value in match.state.items()}, strict=False, assign=True)
    return generator


def _smooth(channels: int) -> Tensor:
    """(1, C, 32, 32) in [0.2, 0.8]; another gradient in every channel."""
    line = torch.linspace(0, 1, _SIDE)
    y, x = torch.meshgrid(line, line, indexing="ij")
    planes = [0.2 + 0.6 * x, 0.25 + 0.5 * y, 0.5 + 0.25 * torch.sin(3 * (x + y))]
    return torch.stack([planes[index % 3] for index in range(channels)])[None]
