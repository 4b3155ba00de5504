"""What the recipes that make images of latents share: samples of fixed latents, and their validation."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from gankit.training.sample_grid import tensor_grid
from gankit.training.system import System

_ROWS = _COLUMNS = 8
_FIXED = 2**63  # the key of the fixed latents, which no step's has


def draw(seed: int, key: int, count: int, size: int) -> np.ndarray:
    """Standard normal numbers that depend on seed and key alone: a resumed run draws what an unbroken one would.

    Args:
        seed: of the run.
        key: of the draw.
        count: latents.
        size: numbers in each.

    Returns:
        (count, size) float32, from a Philox stream of its own.
    """
    stream = np.random.Generator(np.random.Philox(key=np.array([seed, key], np.uint64)))
    return stream.standard_normal((count, size), dtype=np.float32)


def diversity(samples: Tensor) -> float:
    """Root-mean-square distance per pixel of two samples: sqrt(2·mean of the pixels' unbiased variances).

    A generator that collapses makes the same image of every latent, and falls to 0.

    Args:
        samples: (N, C, H, W), N ≥ 2.
    """
    return math.sqrt(2 * float(samples.float().var(0).mean()))


class SamplingSystem(System):
    """A recipe whose generator makes images of latents; made by the recipes, not by itself.

    Args:
        model: registry name of what ships.
        options: that build it.
        fabric: a Lightning Fabric.
        seed: of the latents.
        latent: numbers in a latent.
        classes: of a conditional generator; 0 without.
        reference: (N, C, H, W) real images, in [-1, 1], which samples are held against.
        lowest: of the generator's values: -1, or 0 for images in [0, 1].
    """

    name: str
    keeps_best = False

    def __init__(
        self,
        model: str,
        options: Mapping[str, Any],
        fabric: Any,
        *,
        seed: int,
        latent: int,
        classes: int,
        reference: Tensor,
        lowest: float = -1.0,
    ) -> None:
        self._model, self._model_options, self._fabric = model, dict(options), fabric
        self._lowest, self._seed, self._classes = lowest, seed, classes
        count = _ROWS * (classes or _COLUMNS)
        self._fixed = self._placed(torch.from_numpy(draw(seed, _FIXED, count, latent)))
        self._fixed_classes = [self._placed(torch.arange(count) % classes)] if classes else []
        self._mean = reference.float().mean(0)
        self._real_diversity = diversity(reference) if len(reference) > 1 else 0.0

    def draw(self, key: int, count: int, size: int) -> Tensor:
        """(count, size) of :func:`draw` on the device; with several devices, this one's part of one draw for all."""
        rank, world = self._fabric.global_rank, self._fabric.world_size
        drawn = draw(self._seed, key, count * world, size)
        return self._placed(torch.from_numpy(drawn[rank * count : (rank + 1) * count]))

    def samples(self, generator: nn.Module) -> Tensor:
        """(N, C, H, W) float32 in [-1, 1] of the fixed latents, on the CPU; classes one by one in turn."""
        with torch.no_grad(), self._fabric.autocast():
            made = generator(self._fixed, *self._fixed_classes)
        made = made.float().cpu()
        result: Tensor = made if self._lowest else made * 2 - 1
        return result

    def validate(self, generator: nn.Module) -> Mapping[str, float]:
        """How much samples differ from each other, as a part of how much real images do; and how far their mean is.

        ``diversity`` near 1 and ``mean_error`` near 0 (root mean square over pixels, of values in [-1, 1]) are
        necessary for good samples, not sufficient.
        """
        made = self.samples(generator)
        found = {"mean_error": float((made.mean(0) - self._mean).square().mean().sqrt())}
        if self._real_diversity:  # not where all real images are one
            found["diversity"] = diversity(made) / self._real_diversity
        return found

    def diversity(self, generator: nn.Module) -> float | None:
        """See :func:`diversity`."""
        return diversity(self.samples(generator))

    def sample_grid(self, generator: nn.Module) -> np.ndarray | None:
        """Samples of the fixed latents: 8 columns, or one for each class."""
        return tensor_grid(self.samples(generator), self._classes or _COLUMNS)

    def save_generator(self, path: Path, state: Mapping[str, Tensor], extra: Mapping[str, str]) -> None:
        """A ``.safetensors`` file that ``gankit generate --model FILE`` takes."""
        from gankit.checkpoints import save

        save(path, dict(state), self._model, self._model_options, metadata={**extra, "recipe": self.name})

    def _placed(self, x: Tensor) -> Tensor:
        placed: Tensor = self._fabric.to_device(x)
        return placed
