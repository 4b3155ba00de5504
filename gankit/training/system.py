"""What a recipe is to the loop."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol

import numpy as np
from torch import Tensor, nn
from torch.optim import Optimizer

from gankit.training.schedules import Schedule

Validator = Callable[[nn.Module], Mapping[str, float]]
"""A generator in eval mode -> figures by name, such as ``{"score": 31.2}``."""


class Stateful(Protocol):
    """What a checkpoint keeps: tensors, numbers and text, in dictionaries and lists."""

    def state_dict(self) -> dict[str, Any]:
        """Everything that is needed to continue."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> Any:
        """Take up what :meth:`state_dict` gave."""
        ...


class System(ABC):
    """What a recipe is to the loop.

    Attributes:
        generator: the network that is averaged, validated and shipped.
        modules: every network by name, the generator among them.
        optimisers: every optimiser by name.
        schedules: factor of the learning rate by step, for the optimisers that have one.
        extras: what else a checkpoint must keep, by name: pools of images, generators of random numbers.
        keeps_best: whether a larger score means better weights. Not where an adversary teaches: PSNR falls as the
            images get sharper.
        head_start: steps that leave the generator as it was; they are not validated.
    """

    generator: nn.Module
    modules: Mapping[str, nn.Module]
    optimisers: Mapping[str, Optimizer]
    schedules: Mapping[str, Schedule]
    extras: Mapping[str, Stateful] = MappingProxyType({})
    keeps_best: bool = True
    head_start: int = 0

    @abstractmethod
    def step(self, batch: Any, index: int) -> Mapping[str, Tensor]:
        """Forward, backward and optimiser steps on one batch; returns the losses, detached, by name."""

    @abstractmethod
    def validate(self, generator: nn.Module) -> Mapping[str, float]:
        """Measure a generator in eval mode.

        The entry ``"score"`` (larger is better) decides which weights are best; it may be absent where none are kept.
        """

    @abstractmethod
    def save_generator(self, path: Path, state: Mapping[str, Tensor], extra: Mapping[str, str]) -> None:
        """Write weights that the commands take with ``--model FILE``."""

    def sample_grid(self, generator: nn.Module) -> np.ndarray | None:
        """Samples of a generator in eval mode, always of the same noise or images, side by side: (H, W, 3) uint8."""
        return None

    def diversity(self, generator: nn.Module) -> float | None:
        """How much the samples of a generator in eval mode differ from one another; the loop warns where it drops."""
        return None
