"""How good pictures are: PSNR and SSIM as the super-resolution tables do, benchmark folders, comparison pictures.

Nothing here imports torch: the figures are of 8-bit pictures, whichever engine made them.
"""

from __future__ import annotations

from gankit.evaluation.benchmark import Score, Table, bicubic, evaluate_pairs, find_scale
from gankit.evaluation.comparison import Panel, compare_upscalers, strip
from gankit.evaluation.metrics import luma, psnr, psnr_y, ssim_y

__all__ = [
    "Panel",
    "Score",
    "Table",
    "bicubic",
    "compare_upscalers",
    "evaluate_pairs",
    "find_scale",
    "luma",
    "psnr",
    "psnr_y",
    "ssim_y",
    "strip",
]
