"""Conditional GAN (Mirza and Osindero 2014, arXiv:1411.1784), with the hinge loss and spectral norm of later work."""

from __future__ import annotations

from gankit.training.recipes.families.latent import latent_recipe

RECIPE = latent_recipe(
    "cgan",
    "Conditional GAN: images of a given class (Mirza and Osindero 2014).",
    {
        "net": "cgan",
        "adversarial": "hinge",
        "discriminator_norm": "spectral",
        "discriminator_lr": 4e-4,
        "betas": (0.0, 0.999),
    },
    own_net=True,
)
