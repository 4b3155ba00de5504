"""Wasserstein GAN (Arjovsky et al. 2017, arXiv:1701.07875): clipped weights, RMSprop, five discriminator steps."""

from __future__ import annotations

from gankit.training.recipes.families.latent import SLOW, latent_recipe

RECIPE = latent_recipe(
    "wgan",
    "Wasserstein GAN with clipped weights (Arjovsky et al. 2017).",
    {"adversarial": "wasserstein", "discriminator_steps": 5, "clip": 0.01, "optimiser": "rmsprop", "lr": 5e-5},
    example=SLOW,
    steps=4000,
)
