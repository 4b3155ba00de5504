"""Measure how far an engine's images are from the fp32 eager ones. Importing this module imports no torch."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor, nn

GATE_DB = 45.0


@dataclass(frozen=True)
class Parity:
    """The distance of an image from the reference, with both clamped to [0, 1].

    Attributes:
        psnr: peak signal-to-noise ratio in dB; infinite for equal images, ``-inf`` if a value is not finite.
        max_abs: largest absolute difference (1 is full scale).
        image: name of the image where it was measured, such as ``"one bright dot"``; empty for the usual input, which
            is a real image or samples.
    """

    psnr: float
    max_abs: float
    image: str = ""

    def passes(self, threshold: float = GATE_DB) -> bool:
        """Whether the PSNR reaches ``threshold`` dB."""
        return self.psnr >= threshold


@dataclass(frozen=True)
class Verdict:
    """What an engine may run.

    Attributes:
        parity: the worst parity of the images that it may run.
        contrast: least contrast of these images in 8-bit levels; 0 if it may run all. The contrast of an image is the
            largest standard deviation of its channels.
    """

    parity: Parity
    contrast: float = 0.0


def compare(result: Tensor, reference: Tensor) -> Parity:
    """Measure the parity of ``result`` with ``reference``.

    Args:
        result: float tensor, nominally in [0, 1]. It is clamped, as in a saved image, and compared in float64.
        reference: the fp32 eager output, of the same shape.

    Raises:
        ValueError: If the shapes differ.
    """
    import torch

    if result.shape != reference.shape:
        raise ValueError(f"shapes differ: {tuple(result.shape)} and {tuple(reference.shape)}")
    if not bool(torch.isfinite(result).all()):
        return Parity(-math.inf, math.inf)
    difference = result.double().clamp(0, 1) - reference.double().clamp(0, 1)
    mse = float(difference.square().mean())
    return Parity(math.inf if mse == 0 else -10 * math.log10(mse), float(difference.abs().max()))


def reference(generator: nn.Module, *inputs: Tensor) -> Tensor:
    """Compute the fp32 eager output with which engines are compared: the module as loaded, on its device.

    Args:
        generator: module in fp32 and eval mode.
        inputs: (N, C, H, W) float32 in the value range of the generator, or latents and classes.
    """
    import torch

    with torch.inference_mode():
        result: Tensor = generator(*(item.contiguous() for item in inputs))
        return result


def parity_message(parity: Parity | None) -> str:
    """Describe a parity, such as ``"52.1 dB from fp32 on a step"`` or ``"identical to fp32"``."""
    if parity is None:
        return "not finite"
    if parity.psnr == math.inf:
        return "identical to fp32"
    where = f" on {parity.image}" if parity.image else ""
    return f"not finite{where}" if parity.psnr == -math.inf else f"{parity.psnr:.1f} dB from fp32{where}"
