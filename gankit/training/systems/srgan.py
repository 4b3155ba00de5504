"""SRResNet and SRGAN (Ledig et al. 2017, arXiv:1609.04802), and EDSR (Lim et al. 2017, arXiv:1707.02921).

Two stages: ``srresnet`` and ``edsr`` learn the content loss; ``srgan`` continues from their weights with a
discriminator.

What differs from SRGAN's paper, and why: L1 in place of the squared error and BatchNorm left as the identity with a
trainable bias (both Lim et al. 2017, arXiv:1707.02921: better PSNR for the same work; ``norm="batch"`` trains it as
published), Muon for the body (reaches in hundreds of steps what takes Adam thousands), the relativistic loss (ESRGAN),
the discriminator's own features as the perceptual term where no VGG19 is at hand, and spectral normalisation in place
of the discriminator's BatchNorm: with BatchNorm it soon tells the batches apart without a doubt, and from then on
teaches nothing (``discriminator_norm="batch"`` trains it as published).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from gankit.errors import UsageError
from gankit.models.srgan import Discriminator
from gankit.training import losses
from gankit.training.choices import RELATIVISTIC
from gankit.training.noise import fading, instance_noise
from gankit.training.penalties import clip_weights, gradient_penalty, r1_penalty
from gankit.training.schedules import Schedule, delayed, make_schedule
from gankit.training.spectral import add_spectral_norm, weights_once
from gankit.training.system import System, Validator
from gankit.training.systems.superres_options import AdversarialOptions, ContentOptions
from gankit.training.systems.upscalers import upscaler
from gankit.training.unet_discriminator import UNetDiscriminator
from gankit.training.vgg import PerceptualLoss

_Loss = Callable[[Tensor, Tensor], Tensor]
_CONTENT: Mapping[str, _Loss] = {"l1": losses.l1, "mse": losses.mse, "charbonnier": losses.charbonnier}


class ContentSystem(System):
    """The ``srresnet`` and ``edsr`` recipes.

    Args:
        options: see :class:`ContentOptions`.
        fabric: a Lightning Fabric that places and casts.
        validator: generator in eval mode -> ``{"score": …}``; a method ``sample_grid``, if any, draws the sample grids.
        initial: state dict to begin from; with ``norm="frozen"`` its BatchNorms move into the convolutions.
    """

    name = "srresnet"

    def __init__(
        self, options: ContentOptions, fabric: Any, validator: Validator, initial: Mapping[str, Tensor] | None = None
    ) -> None:
        self.options, self._fabric, self._validator = options, fabric, validator
        self._upscaler = upscaler(options, initial, fabric.device)
        self.generator: nn.Module = self._upscaler.generator
        forward = self._upscaler.forward
        if options.compile:
            forward = torch.compile(forward)  # type: ignore[assignment]
        self._forward, optimiser = fabric.setup(forward, self._upscaler.optimiser)
        self._optimiser = optimiser
        self.modules: dict[str, nn.Module] = {"generator": self.generator}
        self.optimisers: dict[str, Optimizer] = {"generator": optimiser.optimizer}
        self.schedules: dict[str, Schedule] = {"generator": self._rates(options.steps)}
        self._first_content = _CONTENT[options.content]
        self._squared_from = round(options.steps * (1 - options.mse_share))

    def _rates(self, steps: int) -> Schedule:
        return make_schedule(self.options.schedule, steps, warmup=self.options.warmup, end=self.options.final_rate)

    def _content(self, result: Tensor, target: Tensor, index: int) -> Tensor:
        """The content loss of step ``index``."""
        loss = losses.mse if index >= self._squared_from else self._first_content
        return loss(result, target)

    def step(self, batch: Any, index: int) -> Mapping[str, Tensor]:
        """One step on (LR, HR) uint8 patches."""
        low, high = _to_float(self._fabric, batch)
        result = self._forward(low).float()
        loss = self._content(result, high, index)
        self._optimiser.zero_grad()
        self._fabric.backward(loss)
        self._optimiser.step()
        return {"content": loss.detach()}

    def validate(self, generator: nn.Module) -> Mapping[str, float]:
        """The validator's figures."""
        return self._validator(generator)

    def sample_grid(self, generator: nn.Module) -> np.ndarray | None:
        """The validator's sample grid, if it draws one."""
        draw: Callable[[nn.Module], np.ndarray] | None = getattr(self._validator, "sample_grid", None)
        return draw(generator) if draw else None

    def save_generator(self, path: Path, state: Mapping[str, Tensor], extra: Mapping[str, str]) -> None:
        """A ``.safetensors`` file that gankit loads."""
        from gankit.checkpoints import save

        made = self._upscaler
        save(path, dict(state), made.model or self.name, made.options, metadata=dict(extra))


class AdversarialSystem(ContentSystem):
    """The ``srgan`` recipe; arguments as :class:`ContentSystem`.

    Raises:
        UsageError: no step is left for the generator, or the options do not go together.
        CheckpointError: the VGG19 weights cannot be used.
    """

    name = "srgan"
    keeps_best = False
    options: AdversarialOptions

    def __init__(
        self,
        options: AdversarialOptions,
        fabric: Any,
        validator: Validator,
        initial: Mapping[str, Tensor] | None = None,
    ) -> None:
        if options.head_start >= options.steps:
            raise UsageError(
                f"{options.steps} steps leave none for the generator: the discriminator trains alone for the first "
                f"{options.head_start}; give more --steps or a smaller --head-start"
            )
        self._discriminator_loss, self._generator_loss = _game(options)
        super().__init__(options, fabric, validator, initial)
        self.head_start = options.head_start
        discriminator = _discriminator(options).train()
        optimiser = torch.optim.Adam(
            discriminator.parameters(),
            lr=options.discriminator_lr,
            betas=options.betas,
            weight_decay=options.weight_decay,
            fused=fabric.device.type == "cuda" or None,
        )
        self._discriminator, self._discriminator_optimiser = fabric.setup(discriminator, optimiser)
        self._features: Any = discriminator  # without Fabric's wrapper, which does not autocast methods but forward
        self.modules["discriminator"] = discriminator
        self.optimisers["discriminator"] = optimiser
        self.schedules["generator"] = delayed(self._rates(options.steps - options.head_start), options.head_start)
        self.schedules["discriminator"] = self._rates(options.steps)
        self._deviation = fading(options.instance_noise, options.steps)
        self._perceptual = None
        if options.vgg_weights is not None:
            self._perceptual = PerceptualLoss(options.vgg_weights).to(fabric.device)

    def step(self, batch: Any, index: int) -> Mapping[str, Tensor]:
        """The discriminator's steps, then one of the generator, on the same patches."""
        options, fabric = self.options, self._fabric
        low, high = _to_float(fabric, batch)
        alone = index < options.head_start
        with torch.set_grad_enabled(not alone):
            result = self._forward(low).float()

        deviation = self._deviation(index)
        for _ in range(options.discriminator_steps):
            reported = self._discriminate(high, result.detach(), deviation)
        if alone:
            return reported

        content = self._content(result, high, index)
        clean = losses.reduced(high, options.scale) if options.degraded else low
        consistency = losses.consistency(result, clean, options.scale)
        self._features.requires_grad_(False)
        with weights_once(self._features), fabric.autocast():
            ours = self._features.forward_features(result)
            fake = self._judged(result, ours, deviation)
            with torch.no_grad():
                theirs = self._features.forward_features(high)
                real = self._judged(high, theirs, deviation)
            perceptual = (
                losses.feature_matching(ours[:-1], theirs[:-1])
                if self._perceptual is None
                else self._perceptual(result, high)
            )
        adversarial = self._generator_loss(real.float(), fake.float())
        loss = (
            options.content_weight * content
            + options.consistency_weight * consistency
            + options.perceptual_weight * perceptual
            + self._adversarial_weight(index) * adversarial
        )
        self._optimiser.zero_grad()
        fabric.backward(loss)
        self._optimiser.step()
        self._features.requires_grad_(True)
        return reported | {
            "content": content.detach(),
            "consistency": consistency.detach(),
            "perceptual": perceptual.detach(),
            "adversarial": adversarial.detach(),
        }

    def _adversarial_weight(self, index: int) -> float:
        """Straight from 0 to the weight that was asked for, in the first steps of the generator."""
        options = self.options
        done = index + 1 - options.head_start
        return options.adversarial_weight * min(1.0, done / max(1, options.adversarial_warmup))

    def _discriminate(self, high: Tensor, made: Tensor, deviation: float) -> dict[str, Tensor]:
        """One step of the discriminator; its loss, and what its penalties were."""
        options = self.options
        high, made = instance_noise(high, deviation), instance_noise(made, deviation)
        with weights_once(self._features):
            loss = self._discriminator_loss(self._discriminator(high).float(), self._discriminator(made).float())
            reported = {"discriminator": loss.detach()}
            if options.r1_weight:
                r1 = r1_penalty(self._features, high)
                loss = loss + options.r1_weight * r1
                reported["r1"] = r1.detach()
            if options.penalty_weight:
                penalty = gradient_penalty(self._features, high, made)
                loss = loss + options.penalty_weight * penalty
                reported["penalty"] = penalty.detach()
        self._discriminator_optimiser.zero_grad()
        self._fabric.backward(loss)
        self._discriminator_optimiser.step()
        if options.clip:
            clip_weights(self._features, options.clip)
        return reported

    def _judged(self, images: Tensor, features: list[Tensor], deviation: float) -> Tensor:
        """The logits of images whose features are known; of the noisy ones where there is noise."""
        if deviation:
            features = self._features.forward_features(instance_noise(images, deviation))
        logits: Tensor = self._features.classify(features[-1])
        return logits


def _discriminator(options: AdversarialOptions) -> nn.Module:
    """The discriminator that the options name, in their norm."""
    channels, spectral = options.discriminator_channels, options.discriminator_norm == "spectral"
    if options.discriminator == "unet":
        unet: nn.Module = UNetDiscriminator(channels=channels)
        return unet.to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]
    discriminator = Discriminator(channels=channels, norm=not spectral)
    if spectral:
        add_spectral_norm(discriminator)
    return discriminator


def _game(options: AdversarialOptions) -> tuple[_Loss, _Loss]:
    """The two sides of the game, each a function of the logits of real and of made images.

    Raises:
        UsageError: there is no such loss, or the options do not go together.
    """
    if options.discriminator == "unet" and options.discriminator_norm == "batch":
        raise UsageError("the U-Net has spectral normalisation, as published: omit --discriminator-norm batch")
    if options.penalty_weight and options.discriminator_norm == "batch":
        raise UsageError(
            "the gradient penalty needs logits of single images, and BatchNorm mixes them: use --discriminator-norm "
            "spectral"
        )
    if options.adversarial == RELATIVISTIC:
        if options.smooth:
            raise UsageError("the relativistic loss has no labels to smooth: omit --smooth, or use --adversarial lsgan")
        return losses.relativistic_discriminator, losses.relativistic_generator
    if options.adversarial not in losses.ADVERSARIAL:
        known = ", ".join((RELATIVISTIC, *losses.ADVERSARIAL))
        raise UsageError(f"unknown --adversarial '{options.adversarial}': choose from {known}")
    game = losses.ADVERSARIAL[options.adversarial].smoothed(options.smooth)
    return game.discriminator, lambda real, fake: game.generator(fake)


def _to_float(fabric: Any, batch: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """uint8 patches as floats in [0, 1] on the device, where the conversion is cheap and 8 bit travel fastest."""
    low, high = (
        fabric.to_device(item).to(torch.float32, memory_format=torch.channels_last).div_(255) for item in batch
    )
    return low, high
