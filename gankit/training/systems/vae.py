"""Variational autoencoder (Kingma & Welling 2014, arXiv:1312.6114), with β (Higgins et al. 2017).

The KL term's weight rises in the first steps (Sønderby et al. 2016, arXiv:1602.02282): with the whole of it at once
the encoder may learn to say nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from gankit.errors import UsageError
from gankit.models import facts
from gankit.models.vae import VAE
from gankit.training.losses import bce_pixels, kl_standard_normal
from gankit.training.schedules import Schedule, make_schedule
from gankit.training.systems.latent_options import VAEOptions
from gankit.training.systems.sampling import SamplingSystem
from gankit.training.weight_init import initialise


class _Reconstruction(nn.Module):
    """The training forward: images there and back."""

    def __init__(self, net: VAE) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor, noise: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """See :meth:`VAE.reconstruct`."""
        return self.net.reconstruct(x, noise)


class VAESystem(SamplingSystem):
    """The ``vae`` recipe.

    Args:
        options: see :class:`VAEOptions`.
        fabric: a Lightning Fabric that places and casts.
        reference: (N, C, H, W) images in [-1, 1] for the validation, held out of the training where the data has such.

    Raises:
        UsageError: the net cannot be so.
    """

    name = "vae"

    def __init__(self, options: VAEOptions, fabric: Any, reference: Tensor) -> None:
        self.options = o = options
        made = {"latent": o.latent, "hidden": list(o.hidden), "size": [o.size, o.size], "channels": o.colours}
        try:
            made = dict(facts("vae", made).options)
        except ValueError as error:
            raise UsageError(f"the autoencoder cannot be built: {error}") from None
        self.generator: VAE = VAE(VAE.Options(**made)).train()  # type: ignore[arg-type]
        if o.weight_init is not None:
            initialise(self.generator, o.weight_init)
        parameters = self.generator.parameters()
        adam = torch.optim.Adam(parameters, o.lr, o.betas, weight_decay=o.weight_decay, fused=True)
        self._forward, self._optimiser = fabric.setup(_Reconstruction(self.generator), adam)
        self.modules: dict[str, nn.Module] = {"generator": self.generator}
        self.optimisers: dict[str, Optimizer] = {"generator": self._optimiser.optimizer}
        self.schedules: dict[str, Schedule] = {"generator": make_schedule(o.schedule, o.steps, warmup=o.warmup)}
        super().__init__("vae", made, fabric, seed=o.seed, latent=o.latent, classes=0, reference=reference, lowest=0.0)
        self._reference = self._placed((reference + 1) / 2)

    def step(self, batch: Any, index: int) -> Mapping[str, Tensor]:
        """One step.

        Args:
            batch: one pair of real images (N, C, H, W) in [-1, 1] and their classes, which are not used.
            index: steps done.
        """
        o, fabric = self.options, self._fabric
        ((images, _),) = batch
        x = (fabric.to_device(images) + 1) / 2
        result, mean, log_variance = self._forward(x, self.draw(index, len(x), o.latent))
        reconstruction = self._distance(result.float(), x)
        kl = kl_standard_normal(mean.float(), log_variance.float())
        self._optimiser.zero_grad()
        fabric.backward(reconstruction + self.kl_weight(index) * kl)
        self._optimiser.step()
        return {"reconstruction": reconstruction.detach(), "kl": kl.detach()}

    def kl_weight(self, index: int) -> float:
        """Weight of the KL term after ``index`` steps."""
        o = self.options
        return o.kl_weight * (min(1.0, (index + 1) / o.kl_warmup) if o.kl_warmup else 1.0)

    def validate(self, generator: nn.Module) -> Mapping[str, float]:
        """As :meth:`SamplingSystem.validate`, and the two terms of the loss on the reference images.

        Those are reconstructed from the mean of their latent.
        """
        assert isinstance(generator, VAE)
        with torch.no_grad():
            result, mean, log_variance = generator.reconstruct(self._reference)
        return {
            **super().validate(generator),
            "reconstruction": float(self._distance(result, self._reference)),
            "kl": float(kl_standard_normal(mean, log_variance)),
        }

    def _distance(self, result: Tensor, x: Tensor) -> Tensor:
        """Summed over an image's pixels, mean over images, as the KL term is."""
        if self.options.loss == "bce":
            return bce_pixels(result, x)
        return (result - x).square().sum() / (2 * len(x))
