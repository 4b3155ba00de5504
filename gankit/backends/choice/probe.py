"""The input for the parity check and the timing: one tile of a real image, or a few samples."""

from __future__ import annotations

import math
from dataclasses import dataclass
from importlib.resources import as_file, files

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from gankit.backends.base import Engine, EngineSpec
from gankit.backends.choice.parity import Parity, compare, reference
from gankit.backends.pixels import enter, from_values
from gankit.models.sampling import latents

_TILE = (160, 192)
_CPU_TILE = (96, 128)  # a CPU's speed per pixel is the same as for the larger one, and choosing takes half the time
_SAMPLES = 16


@dataclass(frozen=True)
class Probe:
    """Inputs with their reference output.

    Attributes:
        inputs: arguments of :meth:`Engine.run`: images as float32 in [0, 1], or latents and classes.
        wanted: the fp32 output of the generator for them, float32, nominally in [0, 1].
        megapixels: megapixels of the input image, or of the generated samples.
        title: description of the inputs.
    """

    inputs: tuple[Tensor, ...]
    wanted: Tensor
    megapixels: float
    title: str

    @classmethod
    def of(cls, spec: EngineSpec, sides: tuple[int, int] | None = None) -> Probe:
        """Make the probe for a spec.

        Args:
            spec: the spec of the engine. Its device determines the size of the tile.
            sides: height and width of the tile in pixels, if another size is needed.
        """
        facts = spec.facts
        if facts.task == "generate":
            return cls._samples(spec)
        height, width = sides or (_CPU_TILE if spec.device == "cpu" else _TILE)
        least = facts.minimum
        tile = real_tile(facts.channels, facts.multiple, (max(height, least), max(width, least)))
        values = enter((tile,), facts)
        wanted = from_values(reference(spec.generator, *values), facts, torch.float32)
        return cls((tile,), wanted, tile[0, 0].numel() / 1e6, "a real image")

    @classmethod
    def _samples(cls, spec: EngineSpec) -> Probe:
        facts = spec.facts
        given = (torch.from_numpy(latents(0, range(_SAMPLES), facts.latent)),)
        if facts.classes:
            given = (*given, torch.arange(_SAMPLES) % facts.classes)  # type: ignore[assignment]
        wanted = from_values(reference(spec.generator, *given), facts, torch.float32)
        pixels = wanted.shape[0] * wanted.shape[2] * wanted.shape[3]
        return cls(given, wanted, pixels / 1e6, f"{_SAMPLES} samples")

    @property
    def timed_inputs(self) -> tuple[Tensor, ...]:
        """The inputs of the timed runs: images as bytes, as read from files, or latents unchanged."""
        if self.inputs[0].ndim != 4:
            return self.inputs
        return ((self.inputs[0] * 255).round().to(torch.uint8),)

    def parity(self, engine: Engine) -> Parity:
        """Run an engine and measure the parity of its output."""
        return compare(engine.run(*self.inputs), self.wanted)

    def parity_of(self, result: Tensor) -> Parity:
        """Measure the parity of an engine's output for :attr:`timed_inputs`."""
        return compare(result if result.is_floating_point() else result.float() / 255, self.wanted)


def real_tile(channels: int = 3, multiple: int = 1, sides: tuple[int, int] = _TILE) -> Tensor:
    """Return the centre of the image that ships with gankit, (1, C, H, W) float32 in [0, 1].

    Args:
        channels: 1 for gray, 3 for RGB. For any other number, the three colours repeat.
        multiple: the sides are cut to multiples of it, or padded by reflection if it exceeds them.
        sides: height and width in pixels, before that.
    """
    with as_file(files("gankit") / "weights" / "parity.png") as path, Image.open(path) as image:
        pixels = np.asarray(image.convert("RGB"))
    missing = [(0, max(0, multiple - size)) for size in pixels.shape[:2]]
    pixels = np.pad(pixels, (*missing, (0, 0)), mode="reflect")
    wanted = (max(side, multiple) for side in sides)
    height, width = (
        min(side, size) // multiple * multiple for side, size in zip(wanted, pixels.shape[:2], strict=True)
    )
    top, left = (pixels.shape[0] - height) // 2, (pixels.shape[1] - width) // 2
    tile = torch.from_numpy(pixels[top : top + height, left : left + width].copy()).permute(2, 0, 1)[None].float() / 255
    tile = tile.mean(1, keepdim=True) if channels == 1 else tile[:, torch.arange(channels) % 3]
    return tile.contiguous(memory_format=torch.channels_last)


def parity_message(parity: Parity | None) -> str:
    """Describe a parity, such as ``"52.1 dB from fp32"`` or ``"identical to fp32"``."""
    if parity is None or parity.psnr == -math.inf:
        return "not finite"
    return "identical to fp32" if parity.psnr == math.inf else f"{parity.psnr:.1f} dB from fp32"
