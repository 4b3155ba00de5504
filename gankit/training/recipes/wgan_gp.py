"""Wasserstein GAN with a gradient penalty (Gulrajani et al. 2017, arXiv:1704.00028)."""

from __future__ import annotations

from gankit.training.recipes.families.latent import SLOW, latent_recipe

RECIPE = latent_recipe(
    "wgan-gp",
    "Wasserstein GAN with a gradient penalty (Gulrajani et al. 2017).",
    {
        "adversarial": "wasserstein",
        "discriminator_steps": 5,
        "penalty_weight": 10.0,
        "lr": 1e-4,
        "betas": (0.0, 0.9),
    },
    example=SLOW,
    steps=4000,
)
