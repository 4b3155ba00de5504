"""Patches for super-resolution, cut from images that are held in memory.

Which patch is item ``i`` depends on the seed and ``i`` alone, so that a resumed run sees what an unbroken one would
have seen, with any number of loader workers.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterable, Sequence
from functools import partial

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from gankit.datasets.ahead import in_order
from gankit.datasets.degradations import Degradation, Degrader, turned, unturned
from gankit.datasets.reduction import reduce
from gankit.datasets.synthetic import synthetic_image
from gankit.errors import UsageError

REDUCTIONS = (1.0, 0.82, 0.67, 0.55, 0.45, 0.37, 0.3, 0.25)
"""The sizes at which every image is used."""

_log = logging.getLogger(__name__)
_ORDERS = tuple(itertools.permutations(range(3)))


def detail(green: np.ndarray) -> float:
    """Mean absolute difference of neighbours, down and across, in 8-bit levels; at least 0.01.

    Args:
        green: (H, W) uint8, the green channel.
    """
    total = 0.0
    for one, other in ((green[1:], green[:-1]), (green[:, 1:], green[:, :-1])):
        apart = np.maximum(one, other) - np.minimum(one, other)  # in 8 bit, which is the fastest
        total += int(apart.sum(dtype=np.uint32)) / max(1, apart.size)
    return max(0.01, total)


class SuperResolutionPatches(Dataset[tuple[Tensor, Tensor]]):
    """An endless set of (LR, HR) patches with flips, quarter turns and the colour channels in any order.

    Args:
        images: (H, W, 3) uint8 each; taken a few at a time, and only the reductions kept.
        scale: HR side over LR side.
        patch: LR side of a patch in pixels.
        seed: of the choice of patches and of what degrades them.
        reductions: every image is used at these sizes: a smaller copy is sharper per pixel. One in which a patch
            finds no room at any of them is used as it is.
        synthetic: how many images of text, lines and patterns to add.
        candidates: number of candidate patches, of which the one with the most detail is used. Half of all places in
            photographs are sky, blur and wall, which teach nothing.
        length: items before the end.
        degradation: what is done to the LR patches; ``None`` for nothing.

    Raises:
        UsageError: no image is as large as one patch.
    """

    def __init__(
        self,
        images: Iterable[np.ndarray],
        *,
        scale: int = 4,
        patch: int = 24,
        seed: int = 0,
        reductions: Sequence[float] = REDUCTIONS,
        synthetic: int = 24,
        candidates: int = 3,
        length: int = 2**40,
        degradation: Degradation | None = None,
    ) -> None:
        self.patch, self.scale, self.seed, self.length = patch, scale, seed, length
        self.candidates = candidates
        self._degrader = Degrader(degradation, seed) if degradation else None
        self._pairs: list[tuple[np.ndarray, np.ndarray]] = []  # (3, H, W): a row of one colour is copied in one go
        count = too_small = 0
        for pairs in in_order(partial(self._cut, reductions=reductions), images):
            count += 1
            too_small += not pairs
            self._pairs += pairs
        smaller = f"smaller than one patch of {patch * scale}×{patch * scale} pixels"
        if too_small:
            if not self._pairs:
                raise UsageError(f"every training image is {smaller}: give larger ones or a smaller --patch")
            _log.warning("%d of %d training images are left out: %s", too_small, count, smaller)
        for index in range(synthetic):
            self._pairs += self._cut(synthetic_image(seed * 1000 + index), reductions)
        if not self._pairs:
            raise UsageError(f"there are no training images, or all are {smaller}")
        weights = np.array([small[1].size * detail(small[1]) ** 0.5 for _, small in self._pairs])
        self._cumulative = np.cumsum(weights / weights.sum())

    def _cut(self, image: np.ndarray, reductions: Sequence[float]) -> list[tuple[np.ndarray, np.ndarray]]:
        """HR and LR of the image at each size in which a patch finds room; at its own size where there is none."""

        def sides(factor: float) -> tuple[int, int]:
            return round(image.shape[0] * factor), round(image.shape[1] * factor)

        def fits(factor: float) -> bool:
            return min(sides(factor)) // self.scale >= self.patch

        pairs = []
        for factor in [each for each in reductions if fits(each)] or [each for each in (1.0,) if fits(each)]:
            height, width = sides(factor)
            sized = image
            if factor != 1.0:
                sized = np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BICUBIC))
            large, small = (np.ascontiguousarray(each.transpose(2, 0, 1)) for each in reduce(sized, self.scale))
            pairs.append((large, small))
        return pairs

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        """LR (3, patch, patch) and HR (3, patch·scale, patch·scale), uint8."""
        rng = np.random.default_rng((self.seed, index))
        u = rng.random(4 + 2 * self.candidates)
        choice = min(int(np.searchsorted(self._cumulative, u[0])), len(self._pairs) - 1)
        large, small = self._pairs[choice]
        s, p = self.scale, self.patch
        rows, columns = small.shape[1] - p + 1, small.shape[2] - p + 1
        places = [(int(down * rows), int(across * columns)) for down, across in u[4:].reshape(-1, 2)]
        y, x = max(places, key=lambda place: detail(small[1, place[0] : place[0] + p, place[1] : place[1] + p]))
        turns, mirror = int(u[1] * 4), bool(u[2] < 0.5)
        order = _ORDERS[int(u[3] * len(_ORDERS))]
        draw = self._degrader.draw(rng, p) if self._degrader else None
        if self._degrader and draw:
            # The photograph is turned first: neither JPEG's tables nor the weights of its colours are symmetric.
            wants = unturned(draw.margins, turns, mirror=mirror)
            ends = (y, small.shape[1] - y - p, x, small.shape[2] - x - p)
            has = (top, bottom, left, right) = tuple(map(min, wants, ends))
            region = small[:, y - top : y + p + bottom, x - left : x + p + right]
            low = self._degrader.apply(_turned(region, turns, mirror, order), turned(has, turns, mirror=mirror), draw)
        else:
            low = _turned(small[:, y : y + p, x : x + p], turns, mirror, order)
        high = _turned(large[:, y * s : (y + p) * s, x * s : (x + p) * s], turns, mirror, order)
        return torch.from_numpy(np.ascontiguousarray(low)), torch.from_numpy(high)


def _turned(planes: np.ndarray, turns: int, mirror: bool, order: tuple[int, ...]) -> np.ndarray:
    """(3, H, W) mirrored, turned and with its colours in another order, as a copy."""
    view = np.rot90(planes[..., ::-1] if mirror else planes, turns, (1, 2))
    result = np.empty(view.shape, np.uint8)
    for place, colour in enumerate(order):
        result[place] = view[colour]
    return result
