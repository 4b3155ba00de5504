"""Validation of translation on held-out images, and sample grids of what a generator makes of some of them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from gankit.datasets.pairs import Pair
from gankit.evaluation.metrics import PEAK, l1, psnr
from gankit.evaluation.segmentation import RESULT_FROM, dice, iou, to_mask
from gankit.evaluation.translation import as_rgb
from gankit.images.grid import grid

_SHOWN_SIDE = 256
_HIGHEST = 10 * math.log10(PEAK**2 / 1e-3)  # dB of equal images, of which a mean can be taken
_QUANTILES = np.linspace(0, 1, 257)


def translated(generator: nn.Module, pixels: np.ndarray, fabric: Any) -> np.ndarray:
    """What a generator makes of an image.

    Args:
        generator: in eval mode, [-1, 1] to [-1, 1].
        pixels: (H, W, C) uint8.
        fabric: where and how precisely to run.

    Returns:
        (H, W, C') uint8.
    """
    batch = fabric.to_device(torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None]).float() / 127.5 - 1
    with torch.inference_mode(), fabric.autocast():
        result = generator(batch)
    levels = (result[0].float().clamp(-1, 1) * 127.5 + 127.5).round().byte()
    output: np.ndarray = levels.permute(1, 2, 0).cpu().numpy()
    return output


class PairValidator:
    """Mean distance of what a generator makes to the targets.

    ``l1`` is the mean absolute error in 8-bit levels, ``psnr`` the mean over the images of 10·log10(255²/MSE), of which
    none counts for more than 78 dB. For masks, which are set from 128 on, ``dice`` and ``iou`` are the means over the
    images in which not both are empty, and 0 where there is no such image. ``score`` is the Dice of masks, and the PSNR
    otherwise.

    Args:
        pairs: (source, target), (H, W, C) uint8; none gives no figures.
        fabric: where and how precisely to run.
        mask: whether the target is one.
    """

    def __init__(self, pairs: Sequence[Pair], fabric: Any, *, mask: bool) -> None:
        self._pairs, self._fabric, self._mask = pairs, fabric, mask

    def __call__(self, generator: nn.Module) -> Mapping[str, float]:
        """The figures by name."""
        if not self._pairs:
            return {}
        found: dict[str, list[float]] = {}
        for source, target in self._pairs:
            made = translated(generator, source, self._fabric)
            for name, value in self._figures(made, target).items():
                found.setdefault(name, []).append(value)
        known = {name: [value for value in values if not math.isnan(value)] for name, values in found.items()}
        means = {name: float(np.mean(values)) if values else 0.0 for name, values in known.items()}
        return {**means, "score": means["dice" if self._mask else "psnr"]}

    def _figures(self, made: np.ndarray, target: np.ndarray) -> dict[str, float]:
        ours, theirs = as_rgb(made), as_rgb(target)
        figures = {"l1": PEAK * l1(ours, theirs), "psnr": min(psnr(ours, theirs), _HIGHEST)}
        if self._mask:
            mask, truth = (to_mask(each[..., 0], RESULT_FROM) for each in (made, target))
            figures |= {"dice": dice(mask, truth), "iou": iou(mask, truth)}
        return figures


class PairShowcase:
    """Input | output | target of a few fixed pairs.

    Args:
        pairs: (source, target), (H, W, C) uint8.
        fabric: where and how precisely to run.
    """

    def __init__(self, pairs: Sequence[Pair], fabric: Any) -> None:
        self._pairs, self._fabric = pairs, fabric

    def sample_grid(self, generator: nn.Module) -> np.ndarray:
        """(H, W, 3) uint8."""
        return _shown([[source, translated(generator, source, self._fabric), target] for source, target in self._pairs])

    def diversity(self, generator: nn.Module) -> float:
        """See :func:`spread`."""
        return spread([translated(generator, source, self._fabric) for source, _ in self._pairs])


class CycleValidator:
    """How well the way there and back keeps an image, and how near the colours come to the other side's.

    ``cycle_a`` is the mean absolute difference of A and A -> B -> A in 8-bit levels, ``cycle_b`` the other way.
    ``values_b`` is the 1-Wasserstein distance of the values in A -> B from those in B, mean over the channels, in 8-bit
    levels; ``values_a`` the other way. Nothing of this says that the images look right: no pairs, no truth.

    Args:
        first: images of A, (H, W, C) uint8.
        second: images of B.
        fabric: where and how precisely to run.
    """

    def __init__(self, first: Sequence[np.ndarray], second: Sequence[np.ndarray], fabric: Any) -> None:
        self._sides, self._fabric = (first, second), fabric

    def __call__(self, generator: Any) -> Mapping[str, float]:
        """The figures by name."""
        if not all(self._sides):
            return {}
        nets = (generator.a_to_b, generator.b_to_a)
        made = [
            [translated(net, each, self._fabric) for each in side] for net, side in zip(nets, self._sides, strict=True)
        ]
        figures = {}
        for name, there, here, net, wanted in (
            ("a", made[0], self._sides[0], nets[1], made[1]),
            ("b", made[1], self._sides[1], nets[0], made[0]),
        ):
            back = [translated(net, each, self._fabric) for each in there]
            apart = [np.abs(ours.astype(np.float64) - each).mean() for ours, each in zip(back, here, strict=True)]
            figures[f"cycle_{name}"] = float(np.mean(apart))
            figures[f"values_{name}"] = _distance_of_values(wanted, here)
        return figures


class CycleShowcase:
    """Input | output | back of a few fixed images, those of A left and those of B right.

    Args:
        first: images of A, (H, W, C) uint8.
        second: images of B.
        fabric: where and how precisely to run.
    """

    def __init__(self, first: Sequence[np.ndarray], second: Sequence[np.ndarray], fabric: Any) -> None:
        self._sides, self._fabric = (first, second), fabric

    def sample_grid(self, generator: Any) -> np.ndarray:
        """(H, W, 3) uint8."""
        rows: list[list[np.ndarray]] = []
        for there, back, images in (
            (generator.a_to_b, generator.b_to_a, self._sides[0]),
            (generator.b_to_a, generator.a_to_b, self._sides[1]),
        ):
            for index, each in enumerate(images[: min(map(len, self._sides))]):
                made = translated(there, each, self._fabric)
                if index == len(rows):
                    rows.append([])
                rows[index] += [each, made, translated(back, made, self._fabric)]
        return _shown(rows)

    def diversity(self, generator: Any) -> float:
        """The smaller of both directions; see :func:`spread`."""
        nets = (generator.a_to_b, generator.b_to_a)
        return min(
            spread([translated(net, each, self._fabric) for each in side])
            for net, side in zip(nets, self._sides, strict=True)
        )


def spread(images: Sequence[np.ndarray]) -> float:
    """Mean over pixels of the standard deviation over images, in 8-bit levels; 0 where all are the same.

    Args:
        images: (H, W, C) uint8; of unequal sizes the common part in the upper left.
    """
    height, width = (min(each.shape[axis] for each in images) for axis in (0, 1))
    return float(np.stack([each[:height, :width] for each in images]).std(axis=0).mean())


def _shown(rows: Sequence[Sequence[np.ndarray]]) -> np.ndarray:
    """A sample grid of the images' upper left parts, (H, W, 3) uint8."""
    return grid([[each[:_SHOWN_SIDE, :_SHOWN_SIDE] for each in row] for row in rows])


def _distance_of_values(made: Sequence[np.ndarray], wanted: Sequence[np.ndarray]) -> float:
    """1-Wasserstein distance ∫|F⁻¹(q) - G⁻¹(q)|dq of the values of two sets, mean over the channels."""
    ours, theirs = (
        np.quantile(np.concatenate([each.reshape(-1, each.shape[2]) for each in images]), _QUANTILES, axis=0)
        for images in (made, wanted)
    )
    return float(np.abs(ours - theirs).mean())
