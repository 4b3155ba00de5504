"""EDSR (Lim et al. 2017, arXiv:1707.02921): fast super-resolution by plain residual blocks."""

from __future__ import annotations

from gankit.training.recipes.families.superres import EXAMPLE, stage

RECIPE = stage(
    "edsr",
    "Fast super-resolution by plain residual blocks (Lim et al. 2017).",
    f"{EXAMPLE} --channels 32 --blocks 4",
    "--init continues from weights, such as with --degradation photo from those of a clean run. The output folder "
    "receives log.csv, last.pt (which --resume continues), best.safetensors (the weights with the highest PSNR) and "
    "final.safetensors. `gankit upscale --model FILE` loads both.",
)
