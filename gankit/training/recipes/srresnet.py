"""SRResNet (Ledig et al. 2017, arXiv:1609.04802): super-resolution by the content loss alone."""

from __future__ import annotations

from gankit.training.recipes.families.superres import EXAMPLE, stage

RECIPE = stage(
    "srresnet",
    "Super-resolution trained with the content loss (Ledig et al. 2017).",
    EXAMPLE,
    "The output folder receives log.csv, last.pt (which --resume continues), best.safetensors (the weights with the "
    "highest PSNR) and final.safetensors. `gankit upscale --model FILE` loads both.",
)
