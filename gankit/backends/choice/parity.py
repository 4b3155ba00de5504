"""How far an engine's images are from the fp32 eager ones."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

GATE_DB = 45.0


@dataclass(frozen=True)
class Parity:
    """Distance of an image from the reference, both clamped to [0, 1].

    Attributes:
        psnr: peak signal-to-noise ratio in dB; infinite for equal images, ``-inf`` where a value is not finite.
        max_abs: largest absolute difference (1 is full scale).
    """

    psnr: float
    max_abs: float

    def passes(self, threshold: float = GATE_DB) -> bool:
        """Whether the PSNR reaches ``threshold`` dB."""
        return self.psnr >= threshold


def compare(result: Tensor, reference: Tensor) -> Parity:
    """Parity of ``result`` with ``reference``.

    Args:
        result: float tensor, nominally in [0, 1]; compared in float64 after clamping, since that is what is saved.
        reference: the fp32 eager output, same shape.

    Raises:
        ValueError: the shapes differ.
    """
    if result.shape != reference.shape:
        raise ValueError(f"shapes differ: {tuple(result.shape)} and {tuple(reference.shape)}")
    if not bool(torch.isfinite(result).all()):
        return Parity(-math.inf, math.inf)
    difference = result.double().clamp(0, 1) - reference.double().clamp(0, 1)
    mse = float(difference.square().mean())
    return Parity(math.inf if mse == 0 else -10 * math.log10(mse), float(difference.abs().max()))


def reference(generator: nn.Module, *inputs: Tensor) -> Tensor:
    """The fp32 eager output that everything is compared with: the module as loaded, no rewrite, CPU or where it is.

    Args:
        generator: eval-mode module in fp32.
        inputs: what it takes: (N, C, H, W) float32 in its value range; or latents and classes.
    """
    with torch.inference_mode():
        result: Tensor = generator(*(item.contiguous() for item in inputs))
        return result
