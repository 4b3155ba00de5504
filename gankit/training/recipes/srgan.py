"""SRGAN (Ledig et al. 2017, arXiv:1609.04802): super-resolution with a discriminator, from a trained srresnet."""

from __future__ import annotations

from gankit.training.recipes.families.superres import EXAMPLE, stage

RECIPE = stage(
    "srgan",
    "Sharp super-resolution, trained adversarially from srresnet or edsr (Ledig et al. 2017).",
    f"{EXAMPLE} --init srresnet",
    "Start from the weights of a trained srresnet or edsr (--init). The output folder receives log.csv, last.pt (which "
    "--resume continues) and final.safetensors, which `gankit upscale --model FILE` loads. No best weights are kept, "
    "since PSNR falls as the images get sharper.",
)
