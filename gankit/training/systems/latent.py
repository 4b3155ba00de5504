"""GANs that begin with a latent: one step for all of them, which the options make into each paper's.

The options and the named presets are in :mod:`gankit.training.systems.latent_options`.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from gankit.errors import UsageError
from gankit.training.losses import ADVERSARIAL
from gankit.training.noise import fading, instance_noise
from gankit.training.penalties import clip_weights, gradient_penalty, r1_penalty
from gankit.training.schedules import Schedule, make_schedule
from gankit.training.spectral import add_spectral_norm, weights_once
from gankit.training.systems.latent_networks import build_discriminator, build_generator, model_options
from gankit.training.systems.latent_options import LatentOptions
from gankit.training.systems.progressive import (
    GrowingDiscriminator,
    GrowingGenerator,
    Growth,
    GrowthState,
    growth,
    lowered,
)
from gankit.training.systems.sampling import SamplingSystem


class LatentSystem(SamplingSystem):
    """The recipes ``gan``, ``cgan``, ``dcgan``, ``wgan``, ``wgan-gp``, ``lsgan`` and ``hinge``.

    One step is ``discriminator_steps`` of the discriminator, each on real images of its own, and one of the
    generator.

    Args:
        name: of the recipe.
        options: see :class:`LatentOptions`.
        fabric: a Lightning Fabric that places and casts.
        reference: (N, C, H, W) real images in [-1, 1], which samples are held against.

    Raises:
        UsageError: the options do not go together.
    """

    def __init__(self, name: str, options: LatentOptions, fabric: Any, reference: Tensor) -> None:
        o = options
        self._check(o)
        self.name, self.options = name, options
        self._loss = ADVERSARIAL[o.adversarial].smoothed(o.smooth)
        self._deviation = fading(o.instance_noise, o.steps)
        generator, discriminator = build_generator(o).train(), build_discriminator(o).train()
        self.generator: nn.Module = generator
        self.modules: dict[str, nn.Module] = {"generator": generator, "discriminator": discriminator}
        if o.progressive:
            generator, discriminator = GrowingGenerator(generator), GrowingDiscriminator(discriminator)
            if o.discriminator_norm == "spectral":
                add_spectral_norm(discriminator.heads)
            self.modules |= {"to_colours": generator.heads, "from_colours": discriminator.heads}
            self._growth = GrowthState(generator, discriminator)
            self.extras = {"growth": self._growth}
        self._grown, self._discriminator_net = generator, discriminator
        self._forward, optimiser = self._set_up(fabric, generator, o.lr)
        self._discriminator, self._discriminator_optimiser = self._set_up(
            fabric, discriminator, o.discriminator_lr or o.lr
        )
        self._optimiser = optimiser
        self.optimisers: dict[str, Optimizer] = {
            "generator": optimiser.optimizer,
            "discriminator": self._discriminator_optimiser.optimizer,
        }
        rates = make_schedule(o.schedule, o.steps, warmup=o.warmup)
        self.schedules: dict[str, Schedule] = dict.fromkeys(self.optimisers, rates)
        super().__init__(
            o.net,
            model_options(o),
            fabric,
            seed=o.seed,
            latent=o.latent,
            classes=o.classes if o.net == "cgan" else 0,
            reference=reference,
        )

    @staticmethod
    def _check(o: LatentOptions) -> None:
        """See that the options go together.

        Raises:
            UsageError: they do not.
        """
        if o.adversarial not in ADVERSARIAL:
            raise UsageError(f"unknown adversarial loss '{o.adversarial}': choose from {', '.join(ADVERSARIAL)}")
        if o.discriminator_steps < 1:
            raise UsageError("the discriminator needs at least one step for each of the generator")
        if o.penalty_weight and o.discriminator_norm == "batch":
            raise UsageError(
                "the gradient penalty needs logits of single images, and BatchNorm mixes them: use "
                "--discriminator-norm none, instance or spectral"
            )

    def _set_up(self, fabric: Any, net: nn.Module, lr: float) -> tuple[Any, Any]:
        o = self.options
        net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        optimiser: Optimizer
        if o.optimiser == "rmsprop":
            optimiser = torch.optim.RMSprop(net.parameters(), lr=lr, weight_decay=o.weight_decay)
        else:
            optimiser = torch.optim.Adam(net.parameters(), lr, o.betas, weight_decay=o.weight_decay, fused=True)
        made: tuple[Any, Any] = fabric.setup(net, optimiser)
        return made

    def step(self, batch: Any, index: int) -> Mapping[str, Tensor]:
        """Some discriminator steps, then one of the generator.

        Args:
            batch: real images (N, C, H, W) in [-1, 1] and their classes (N,) for each discriminator step.
            index: steps done.
        """
        o = self.options
        now = growth(index, o.steps, o.progressive)
        if o.progressive:
            self._growth.set(now)
        deviation = self._deviation(index)
        reported: dict[str, Tensor] = {}
        for turn, items in enumerate(batch):
            real, *known = (self._fabric.to_device(item) for item in items)
            given = known if o.net == "cgan" else []
            reported |= self._discriminate(lowered(real, now), given, self._latents(index, turn, len(real)), deviation)
        return reported | self._generate(given, self._latents(index, len(batch), len(real)), deviation)

    def _discriminate(
        self, real: Tensor, classes: list[Tensor], latents: Tensor, deviation: float
    ) -> dict[str, Tensor]:
        """One step of the discriminator; its loss, and what its penalties were."""
        o = self.options
        with torch.no_grad():
            fake = self._forward(latents, *classes).float()
        real, fake = instance_noise(real, deviation), instance_noise(fake, deviation)
        with weights_once(self._discriminator_net):
            loss = self._loss.discriminator(
                self._discriminator(real, *classes).float(), self._discriminator(fake, *classes).float()
            )
            reported = {"discriminator": loss.detach()}
            discriminator = partial(self._logits, classes)
            if o.penalty_weight:
                penalty = gradient_penalty(discriminator, real, fake)
                loss = loss + o.penalty_weight * penalty
                reported["penalty"] = penalty.detach()
            if o.r1_weight:
                r1 = r1_penalty(discriminator, real)
                loss = loss + o.r1_weight * r1
                reported["r1"] = r1.detach()
            self._discriminator_optimiser.zero_grad()
            self._fabric.backward(loss)
        self._discriminator_optimiser.step()
        if o.clip:
            clip_weights(self._discriminator_net, o.clip)
        return reported

    def _generate(self, classes: list[Tensor], latents: Tensor, deviation: float) -> dict[str, Tensor]:
        """One step of the generator; its loss."""
        self._discriminator_net.requires_grad_(False)
        with weights_once(self._discriminator_net):
            fake = instance_noise(self._forward(latents, *classes).float(), deviation)
            loss = self._loss.generator(self._discriminator(fake, *classes).float())
            self._optimiser.zero_grad()
            self._fabric.backward(loss)
        self._optimiser.step()
        self._discriminator_net.requires_grad_(True)
        return {"generator": loss.detach()}

    def _logits(self, classes: list[Tensor], images: Tensor) -> Tensor:
        """The logits, without Fabric's wrapper, which forbids gradients by anything but a loss."""
        with self._fabric.autocast():
            logits: Tensor = self._discriminator_net(images, *classes)
        return logits

    def _latents(self, index: int, turn: int, count: int) -> Tensor:
        """(count, latent) of this step and turn."""
        return self.draw(index * (self.options.discriminator_steps + 1) + turn, count, self.options.latent)

    def samples(self, generator: nn.Module) -> Tensor:
        """As :meth:`SamplingSystem.samples`; while the images grow, those of the present size, enlarged."""
        grown = self._grown
        if not isinstance(grown, GrowingGenerator) or grown.now == Growth():
            return super().samples(generator)
        was = grown.training
        try:
            made = super().samples(grown.eval())  # its net is the generator: the loop has put the average into it
        finally:
            grown.train(was)
        return made.repeat_interleave(2**grown.now.level, 2).repeat_interleave(2**grown.now.level, 3)
