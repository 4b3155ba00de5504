"""What the recipes for images have in common: their options, and the discriminator with its side of the game."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Adam, Optimizer

from gankit.errors import UsageError
from gankit.models.patchgan import PatchGAN, PixelGAN
from gankit.training import losses
from gankit.training.noise import fading, instance_noise
from gankit.training.penalties import gradient_penalty, r1_penalty
from gankit.training.schedules import Schedule, make_schedule
from gankit.training.spectral import add_spectral_norm, weights_once
from gankit.training.weight_init import Init, initialise

DiscriminatorNorm = Literal["instance", "batch", "spectral", "none"]
Judge = Callable[[nn.Module], Mapping[str, float]]

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


@dataclass(frozen=True)
class TranslationOptions:
    """Options of both recipes.

    Attributes:
        steps: for the learning rate's schedule, and for the noise, which ends with them.
        model: arguments of the generator (``channels``, …).
        adversarial: the loss that is played, one of :data:`gankit.training.losses.ADVERSARIAL`.
        adversarial_weight: of that loss for the generator.
        smooth: one-sided label smoothing: the real target is 1 - smooth.
        content: the distance of images: ``"l1"`` as in the papers, ``"mse"`` or ``"charbonnier"``.
        lr: Adam's learning rate for the generator.
        discriminator_lr: and for the discriminator; ``None`` for the same (else TTUR, Heusel et al. 2017).
        betas: Adam's decay rates.
        weight_decay: L2 penalty on the weights of both.
        schedule: of both learning rates, by name.
        warmup: steps in which they rise from 0.
        weight_init: ``"normal"`` with deviation 0.02 as in the papers, ``"xavier"`` or ``"he"``.
        discriminator_channels: width of the PatchGAN's first layer.
        discriminator_layers: its strided convolutions: 3 judge patches of 70×70; 0 for single pixels.
        discriminator_norm: ``"instance"``, ``"batch"`` as in pix2pix's paper, ``"spectral"`` or ``"none"``.
        discriminator_steps: of the discriminator for one of the generator.
        noise: deviation of the noise on all that the discriminator sees, falling to 0 with the last step.
        r1: weight of the R1 penalty on real images.
        penalty: weight of the gradient penalty between real and made images.
    """

    steps: int
    model: Mapping[str, Any] = field(default_factory=dict)
    adversarial: str = "nonsaturating"
    adversarial_weight: float = 1.0
    smooth: float = 0.0
    content: str = "l1"
    lr: float = 2e-4
    discriminator_lr: float | None = None
    betas: tuple[float, float] = (0.5, 0.999)
    weight_decay: float = 0.0
    schedule: str = "constant"
    warmup: int = 0
    weight_init: Init = "normal"
    discriminator_channels: int = 64
    discriminator_layers: int = 3
    discriminator_norm: DiscriminatorNorm = "instance"
    discriminator_steps: int = 1
    noise: float = 0.0
    r1: float = 0.0
    penalty: float = 0.0

    def schedule_of(self) -> Schedule:
        """The factor of both learning rates by step."""
        return make_schedule(self.schedule, self.steps, warmup=self.warmup)


class Adversary:
    """A PatchGAN, its optimiser, and both sides of the game.

    Args:
        in_channels: of what it judges.
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
        self._noise = fading(options.noise, options.steps)
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
                real_logits, made_logits = self._judge(self._noisy(real, step), self._noisy(made, step))
                loss = self._game.discriminator(real_logits, made_logits) / 2
                if options.r1:
                    loss = loss + options.r1 * r1_penalty(self.module, real)
                if options.penalty:
                    loss = loss + options.penalty * gradient_penalty(self.module, real, made)
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

    def _judge(self, real: Tensor, made: Tensor) -> tuple[Tensor, Tensor]:
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
            raise UsageError(f"--{what} {value}: known are {', '.join(known)}")
