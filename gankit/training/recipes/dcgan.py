"""DCGAN (Radford et al. 2016, arXiv:1511.06434): two networks of strided convolutions."""

from __future__ import annotations

from gankit.training.recipes.families.latent import latent_recipe

RECIPE = latent_recipe(
    "dcgan", "Convolutional GAN (Radford et al. 2016).", {"net": "dcgan", "discriminator_norm": "batch"}, own_net=True
)
