"""GAN with the hinge loss, spectral norm and two learning rates (Miyato et al. 2018, arXiv:1802.05957)."""

from __future__ import annotations

from gankit.training.recipes.families.latent import latent_recipe

RECIPE = latent_recipe(
    "hinge",
    "GAN with the hinge loss (Miyato et al. 2018).",
    {"adversarial": "hinge", "discriminator_norm": "spectral", "discriminator_lr": 4e-4, "betas": (0.0, 0.999)},
)
