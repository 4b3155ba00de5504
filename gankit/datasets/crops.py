"""Squares cut from images that are to be translated, and the middles for the validation.

What is cut for item ``i`` depends on the seed and ``i`` alone, so that a resumed run sees what an unbroken one would
have seen, with any number of loader workers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from gankit.datasets.options import Cut
from gankit.datasets.pairs import Pair
from gankit.datasets.pixels import resized

_VALIDATION_SIDE = 512


def middle(images: Sequence[np.ndarray], multiple: int) -> list[np.ndarray]:
    """The middle of equally large images, for the validation: sides are multiples of ``multiple``, at most about 512.

    An image smaller than one multiple is enlarged to it, by the nearest pixel.
    """
    sides = [side // multiple * multiple for side in images[0].shape[:2]]
    if not all(sides):
        size = (max(sides[0], multiple), max(sides[1], multiple))
        images = [resized(pixels, size, exact=True) for pixels in images]
        sides = list(size)
    most = max(multiple, _VALIDATION_SIDE // multiple * multiple)
    height, width = (min(side, most) for side in sides)
    top, left = (images[0].shape[0] - height) // 2, (images[0].shape[1] - width) // 2
    return [np.ascontiguousarray(pixels[top : top + height, left : left + width]) for pixels in images]


class _Crops(Dataset[tuple[Tensor, Tensor]]):
    """What both sets have in common.

    Args:
        cut: how.
        seed: of the order and the places.
        exact: for the source and the target: never mix values (masks and labels).
    """

    def __init__(self, cut: Cut, seed: int, exact: tuple[bool, bool]) -> None:
        self.cut, self.seed, self.exact = cut, seed, exact
        self._orders: dict[tuple[int, int], np.ndarray] = {}

    def __len__(self) -> int:
        return 2**40

    def _pick(self, side: int, index: int, count: int) -> int:
        """Which of ``count`` images: every one once, in any order, then again in another."""
        epoch, place = divmod(index, count)
        if (side, epoch) not in self._orders:
            self._orders = {key: order for key, order in self._orders.items() if key[1] >= epoch - 1}
            self._orders[side, epoch] = np.random.default_rng((self.seed, side, epoch)).permutation(count)
        return int(self._orders[side, epoch][place])

    def _cut(self, rng: np.random.Generator, images: Sequence[np.ndarray], exact: Sequence[bool]) -> Iterator[Tensor]:
        """The same square of every image, (C, side, side) uint8."""
        side, (least, most) = self.cut.size, self.cut.zoom
        height, width = images[0].shape[:2]
        zoom = least * (most / least) ** rng.random()
        taken = max(1, min(round(side / zoom), height, width))
        places = [
            (int(rng.integers(0, height - taken + 1)), int(rng.integers(0, width - taken + 1)))
            for _ in range(self.cut.candidates)
        ]

        def contrast(place: tuple[int, int]) -> float:
            top, left = place
            return sum(float(pixels[top : top + taken, left : left + taken].std()) for pixels in images)

        top, left = max(places, key=contrast) if len(places) > 1 else places[0]
        box = (top, left, top + taken, left + taken)
        mirror, turns = rng.random() < 0.5, int(rng.integers(0, 4))
        for pixels, as_it_is in zip(images, exact, strict=True):
            square = resized(pixels, (side, side), box, exact=as_it_is)
            square = square[:, ::-1] if mirror and self.cut.flips != "none" else square
            square = np.rot90(square, turns) if self.cut.flips == "all" else square
            yield torch.from_numpy(square.copy()).permute(2, 0, 1)


class PairedCrops(_Crops):
    """An endless set of (source, target) squares, both cut at the same place.

    Args:
        pairs: (H, W, C) and (H, W, C') uint8 each.
        cut: how.
        seed: of the order and the places.
        exact: for the source and the target: never mix values (masks and labels).
    """

    def __init__(
        self, pairs: Sequence[Pair], cut: Cut, *, seed: int = 0, exact: tuple[bool, bool] = (False, False)
    ) -> None:
        super().__init__(cut, seed, exact)
        self._pairs = pairs

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        """(C, side, side) and (C', side, side), uint8."""
        pair = self._pairs[self._pick(0, index, len(self._pairs))]
        source, target = self._cut(np.random.default_rng((self.seed, 2, index)), pair, self.exact)
        return source, target


class UnpairedCrops(_Crops):
    """An endless set of squares of A and of B that have nothing to do with each other.

    Args:
        first: images of A, (H, W, C) uint8.
        second: images of B.
        cut: how.
        seed: of the order and the places.
        exact: for A and B: never mix values (masks and labels).
    """

    def __init__(
        self,
        first: Sequence[np.ndarray],
        second: Sequence[np.ndarray],
        cut: Cut,
        *,
        seed: int = 0,
        exact: tuple[bool, bool] = (False, False),
    ) -> None:
        super().__init__(cut, seed, exact)
        self._sides = (first, second)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        """(C, side, side) and (C', side, side), uint8."""
        squares: list[Tensor] = []
        for side, images in enumerate(self._sides):
            chosen = images[self._pick(side, index, len(images))]
            rng = np.random.default_rng((self.seed, 2 + side, index))
            squares += self._cut(rng, [chosen], [self.exact[side]])
        return squares[0], squares[1]
