"""Figures of translated images against the true ones: colours, or masks."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from gankit.datasets.indices import indices, to_masks
from gankit.errors import UsageError
from gankit.evaluation.benchmark import Distance, mean_of
from gankit.evaluation.metrics import SSIM_SIDE, DecodedImage, l1, psnr, ssim_y
from gankit.evaluation.segmentation import RESULT_FROM, dice, iou, to_mask

Translate = Callable[[str, DecodedImage], DecodedImage]


@dataclass(frozen=True)
class TranslationScore:
    """Figures of one image, or their means; ``None`` for what was not measured.

    Attributes:
        name: the image's stem.
        l1: mean absolute difference of RGB, of a range of 1.
        psnr: dB, on RGB.
        ssim_y: on luma; of images of 11×11 and more.
        lpips: perceptual distance.
        dice: of masks; NaN where both are empty, see :mod:`gankit.evaluation.segmentation`.
        iou: likewise.
    """

    name: str
    l1: float | None = None
    psnr: float | None = None
    ssim_y: float | None = None
    lpips: float | None = None
    dice: float | None = None
    iou: float | None = None

    def figures(self) -> dict[str, float | None]:
        """What was measured, for JSON, which knows only finite numbers.

        ``None`` is the PSNR of equal images, and Dice and IoU of two empty masks.
        """
        found = {name: value for name, value in asdict(self).items() if name != "name" and value is not None}
        return {name: value if math.isfinite(value) else None for name, value in found.items()}


@dataclass(frozen=True)
class TranslationTable:
    """Figures of one model over pairs of images, in their order."""

    scores: tuple[TranslationScore, ...]

    @property
    def mean(self) -> TranslationScore:
        """The means over the images (of dB values, as the papers average them).

        Pairs of empty masks are left out of Dice and IoU, which are NaN where there is no other pair.
        """
        names = [field.name for field in fields(TranslationScore) if field.name != "name"]
        measured = {name: [getattr(score, name) for score in self.scores] for name in names}
        for name in ("dice", "iou"):
            known = [value for value in measured[name] if value is None or not math.isnan(value)]
            measured[name] = known or [math.nan]
        means = {name: mean_of(values) for name, values in measured.items()}
        return TranslationScore("mean", **means)

    @property
    def both_empty(self) -> int:
        """Pairs in which the result and the target are empty masks."""
        return sum(score.dice is not None and math.isnan(score.dice) for score in self.scores)

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        images = {score.name: score.figures() for score in self.scores}
        empty = {} if self.scores[0].dice is None else {"both_empty": self.both_empty}
        return {"n": len(self.scores), **empty, "mean": self.mean.figures(), "images": images}


def evaluate_translations(
    translate: Translate,
    pairs: Mapping[str, tuple[DecodedImage, DecodedImage]],
    *,
    masks: bool = False,
    mask_from: int | None = None,
    lpips: Distance | None = None,
) -> TranslationTable:
    """Translate every input and measure it against its target, at its own size.

    Args:
        translate: name and (H, W, C) uint8 -> (H, W), (H, W, 1) or (H, W, 3) uint8.
        pairs: input and target by name, (H, W, 1 or 3) uint8.
        masks: the targets are masks of two values, and are read by :func:`gankit.datasets.indices.to_masks`; of a
            result what is at least 128 of 255 is mask. Dice and IoU are measured.
        mask_from: lowest value of a target that is set; ``None`` for masks of two values.
        lpips: a perceptual distance to measure too.

    Raises:
        UsageError: no pairs, a result of another size than its target, or a target that is no mask.
    """
    if not pairs:
        raise UsageError("there are no pairs to measure")
    scores = []
    truths = to_masks({name: indices(target, name) for name, (_, target) in pairs.items()}, mask_from) if masks else {}
    for name, (source, given) in pairs.items():
        result, target = as_rgb(translate(name, source)), as_rgb(given)
        if result.shape != target.shape:
            made, wanted = (f"{p.shape[1]}×{p.shape[0]}" for p in (result, target))
            raise UsageError(f"{name}: the result is {made}, the target {wanted}: give images of one size")
        if masks:
            ours, theirs = to_mask(result, RESULT_FROM), truths[name]
            scores.append(TranslationScore(name, dice=dice(ours, theirs), iou=iou(ours, theirs)))
            continue
        similarity = ssim_y(result, target) if min(target.shape[:2]) >= SSIM_SIDE else None
        distance = None if lpips is None else lpips(result, target)
        scores.append(TranslationScore(name, l1(result, target), psnr(result, target), similarity, distance))
    return TranslationTable(tuple(scores))


def as_rgb(image: DecodedImage) -> DecodedImage:
    """(H, W), (H, W, 1) or (H, W, 3) -> (H, W, 3)."""
    if image.ndim == 2:
        image = image[..., None]
    return image.repeat(3, axis=2) if image.shape[2] == 1 else image
