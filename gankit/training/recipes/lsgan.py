"""Least-squares GAN (Mao et al. 2017, arXiv:1611.04076)."""

from __future__ import annotations

from gankit.training.recipes.families.latent import latent_recipe

RECIPE = latent_recipe(
    "lsgan", "Least-squares GAN (Mao et al. 2017).", {"adversarial": "lsgan", "discriminator_norm": "batch"}
)
