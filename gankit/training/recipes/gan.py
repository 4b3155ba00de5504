"""GAN (Goodfellow et al. 2014, arXiv:1406.2661): two networks of dense layers.

Its loss is the non-saturating one that the paper trains with; ``adversarial="minimax"`` is the one that it derives.
"""

from __future__ import annotations

from gankit.training.recipes.families.latent import latent_recipe

RECIPE = latent_recipe(
    "gan",
    "GAN with dense layers (Goodfellow et al. 2014).",
    {"net": "gan", "discriminator_dropout": 0.3, "smooth": 0.1},
    own_net=True,
)
