"""Variational autoencoder (Kingma and Welling 2014, arXiv:1312.6114), with β (Higgins et al. 2017)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gankit.training.recipes.base import (
    NUMBER,
    WEIGHT,
    Choice,
    Job,
    Option,
    Recipe,
    RunDefaults,
    Widths,
    with_defaults,
)
from gankit.training.recipes.families.latent import QUICK, RESULT, data_options, latent_data, shared_options
from gankit.training.systems.latent_options import VAEOptions

_OWN = (
    Option("hidden", Widths(), "Widths of the encoder's layers; the decoder has them in reverse."),
    Option("kl_weight", WEIGHT, "Weight of the KL term, the β of β-VAE."),
    Option("loss", Choice(("bce", "mse")), "Reconstruction loss."),
    Option("kl_warmup", NUMBER, "Steps over which the weight of the KL term rises from 0."),
)


def _train(job: Job, given: Mapping[str, Any]) -> dict[str, float]:
    from gankit.training.latent import train_vae

    data, options = latent_data(job, given)
    return train_vae(data, job.plan, device=job.device, options=options, notify=job.notify)


RECIPE = Recipe(
    "vae",
    "Variational autoencoder, or β-VAE (Kingma and Welling 2014).",
    QUICK,
    (*data_options(classes=False), *shared_options(VAEOptions, {}), *with_defaults(_OWN, VAEOptions)),
    _train,
    RunDefaults(10_000, batch=64, validate_every=500),
    RESULT,
)
