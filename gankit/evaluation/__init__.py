"""How good images are: against the truth (PSNR, SSIM, Dice), against a set (distances of features), for the eye.

The figures are of 8-bit images, whichever engine made them. Nothing that is imported here imports torch: what needs
it is in ``features``, ``classifier``, ``distances``, ``inception`` and ``perceptual``.
"""

from __future__ import annotations

from gankit.evaluation.benchmark import Score, Table, bicubic, evaluate_pairs, find_scale
from gankit.evaluation.comparison import Panel, compare_translations, compare_upscalers, side_by_side, stack
from gankit.evaluation.metrics import l1, luma, psnr, psnr_y, ssim_y
from gankit.evaluation.segmentation import dice, iou, to_mask
from gankit.evaluation.translation import TranslationScore, TranslationTable, evaluate_translations

__all__ = [
    "Panel",
    "Score",
    "Table",
    "TranslationScore",
    "TranslationTable",
    "bicubic",
    "compare_translations",
    "compare_upscalers",
    "dice",
    "evaluate_pairs",
    "evaluate_translations",
    "find_scale",
    "iou",
    "l1",
    "luma",
    "psnr",
    "psnr_y",
    "side_by_side",
    "ssim_y",
    "stack",
    "to_mask",
]
