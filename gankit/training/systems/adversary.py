"""What the recipes for images have in common: the discriminator with its side of the game."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Adam, Optimizer

from gankit.errors import UsageError
from gankit.models.patchgan import PatchGAN, PixelGAN
from gankit.training import losses
from gankit.training.noise import fading, instance_noise
from gankit.training.penalties import gradient_penalty, r1_penalty
from gankit.training.spectral import add_spectral_norm, weights_once
from gankit.training.system import System, Validator
from gankit.training.systems.translation_options import TranslationOptions
from gankit.training.weight_init import initialise

CONTENT: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = {
    "l1": losses.l1,
    "mse": losses.mse,
    "charbonnier": losses.charbonnier,
}


class Showcase(Protocol):
    """A few fixed inputs, and what a generator in eval mode makes of them."""

    def sample_grid(self, generator: nn.Module) -> np.ndarray:
        """(H, W, 3) uint8."""

    def diversity(self, generator: nn.Module) -> float:
        """How much the results differ from each other."""


class TranslationSystem(System):
    """A system whose generator is validated on held-out images and shown on a few fixed ones.

    Args:
        validator: a generator in eval mode -> what is measured.
        show: draws sample grids and watches how much the results differ; ``None`` for neither.
    """

    def __init__(self, validator: Validator, show: Showcase | None) -> None:
        self._validator, self._show = validator, show

    def validate(self, generator: nn.Module) -> Mapping[str, float]:
        """The validator's figures."""
        return self._validator(generator)

    def sample_grid(self, generator: nn.Module) -> np.ndarray | None:
        """Each input beside what the generator makes of it, (H, W, 3) uint8."""
        return self._show.sample_grid(generator) if self._show else None

    def diversity(self, generator: nn.Module) -> float | None:
        """How much the results of the sample grid differ from each other."""
        return self._show.diversity(generator) if self._show else None


class Adversary:
    """A PatchGAN, its optimiser, and both sides of the game.

    Args:
        in_channels: of the images that it sees.
        options: see :class:`TranslationOptions`.
        fabric: a Lightning Fabric that places and casts.

    Raises:
        UsageError: labels cannot be smoothed in the loss that is played.
    """

    def __init__(self, in_channels: int, options: TranslationOptions, fabric: Any) -> None:
        self._options, self._fabric = options, fabric
        self._game = losses.ADVERSARIAL[options.adversarial]
        if options.smooth:
            self._game = self._game.smoothed(options.smooth)
        spectral = options.discriminator_norm == "spectral"
        norm = "none" if options.discriminator_norm == "spectral" else options.discriminator_norm
        width, layers = options.discriminator_channels, options.discriminator_layers
        self.module: nn.Module = (
            PatchGAN(in_channels, width, layers, norm=norm) if layers else PixelGAN(in_channels, width, norm=norm)
        )
        initialise(self.module, options.weight_init)
        if spectral:
            add_spectral_norm(self.module)
        rate = options.lr if options.discriminator_lr is None else options.discriminator_lr
        self.optimiser: Optimizer = adam(self.module.train(), options, rate)
        self._forward, self._optimiser = fabric.setup(self.module, self.optimiser)
        self._noise = fading(options.instance_noise, options.steps)
        self._joined = norm != "batch"  # whose statistics are those of real or of made images, as published

    def learn(self, real: Tensor, made: Tensor, step: int) -> Tensor:
        """The discriminator's steps on one batch; returns its loss, detached.

        The loss is halved, "which slows down the rate at which D learns relative to G" (Isola et al. 2017, 3.3).

        Args:
            real: (N, C, H, W) in [-1, 1].
            made: as many by the generator; no gradient flows into them.
            step: the steps done, for the noise.
        """
        options, made = self._options, made.detach()
        for _ in range(options.discriminator_steps):
            with weights_once(self.module):
                real_logits, made_logits = self._logits(self._noisy(real, step), self._noisy(made, step))
                loss = self._game.discriminator(real_logits, made_logits) / 2
                if options.r1_weight:
                    loss = loss + options.r1_weight * r1_penalty(self.module, real)
                if options.penalty_weight:
                    loss = loss + options.penalty_weight * gradient_penalty(self.module, real, made)
            self._optimiser.zero_grad()
            self._fabric.backward(loss)
            self._optimiser.step()
        return loss.detach()

    def fooled(self, made: Tensor, step: int) -> Tensor:
        """The generator's loss; its gradient reaches the images, and not the discriminator."""
        self.module.requires_grad_(False)
        with weights_once(self.module), self._fabric.autocast():
            # without Fabric's wrapper, which on several ranks waits for gradients of the discriminator
            logits = self.module(self._noisy(made, step))
        self.module.requires_grad_(True)
        return self._game.generator(logits.float())

    def _logits(self, real: Tensor, made: Tensor) -> tuple[Tensor, Tensor]:
        if self._joined:  # one pass is faster than two
            first, second = self._forward(torch.cat([real, made])).float().chunk(2)
            return first, second
        return self._forward(real).float(), self._forward(made).float()

    def _noisy(self, images: Tensor, step: int) -> Tensor:
        return instance_noise(images, self._noise(step))


def adam(module: nn.Module, options: TranslationOptions, rate: float) -> Optimizer:
    """Adam over all parameters of a module, in one kernel a tensor."""
    module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return Adam(module.parameters(), lr=rate, betas=options.betas, weight_decay=options.weight_decay, fused=True)


def to_range(fabric: Any, images: Sequence[Tensor]) -> list[Tensor]:
    """uint8 images of a batch as floats in [-1, 1] on the device."""
    return [
        fabric.to_device(each).float().div_(127.5).sub_(1).contiguous(memory_format=torch.channels_last)
        for each in images
    ]


def check_game(options: TranslationOptions) -> None:
    """See that the names among the options are known.

    Raises:
        UsageError: one is not.
    """
    for what, value, known in (
        ("adversarial", options.adversarial, losses.ADVERSARIAL),
        ("content", options.content, CONTENT),
    ):
        if value not in known:
            raise UsageError(f"unknown --{what} '{value}': choose from {', '.join(known)}")
