"""Patches for super-resolution, cut from pictures that are held in memory.

Which patch is item ``i`` depends on the seed and ``i`` alone, so that a resumed run sees what an unbroken one would
have seen, with any number of loader workers.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from gankit.errors import ImageError, UsageError
from gankit.images import SUFFIXES, decode
from gankit.training.synthetic import synthetic_picture

_log = logging.getLogger(__name__)


def reduce(picture: np.ndarray, scale: int) -> tuple[np.ndarray, np.ndarray]:
    """The picture cropped to a multiple of ``scale``, and its antialiased bicubic reduction.

    Bicubic with a = -0.5 and a support that grows with the factor, as the super-resolution benchmarks made theirs
    (MATLAB's imresize), rounded to 8 bit as theirs are.

    Args:
        picture: (H, W, 3) uint8.
        scale: reduction factor.

    Returns:
        HR (h·scale, w·scale, 3) and LR (h, w, 3), uint8.
    """
    height, width = (side // scale for side in picture.shape[:2])
    large = picture[: height * scale, : width * scale]
    small = Image.fromarray(large).resize((width, height), Image.Resampling.BICUBIC)
    return large, np.asarray(small)


def picture_files(folder: Path) -> list[Path]:
    """All pictures below a folder, sorted.

    Raises:
        UsageError: there are none.
    """
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    if not files:
        raise UsageError(f"{folder}: no pictures there; give a folder with PNG, JPEG, WebP, TIFF or BMP files")
    return files


def read_pictures(folder: Path) -> list[np.ndarray]:
    """All readable pictures below a folder as (H, W, 3) uint8; broken ones are named in the log and skipped."""
    pictures = []
    for path in picture_files(folder):
        try:
            pixels = decode(path).pixels
        except ImageError as error:
            _log.warning("skipped %s", error)
            continue
        pictures.append((pixels // 257).astype(np.uint8) if pixels.dtype == np.uint16 else pixels)
    if not pictures:
        raise UsageError(f"{folder}: none of its pictures can be read")
    return pictures


class SuperResolutionPatches(Dataset[tuple[Tensor, Tensor]]):
    """An endless set of (LR, HR) patches with flips and quarter turns.

    Args:
        pictures: (H, W, 3) uint8 each.
        scale: HR side over LR side.
        patch: LR side of a patch in pixels.
        seed: of the choice of patches.
        reductions: every picture is also used at these sizes: a smaller copy is sharper per pixel.
        synthetic: how many pictures of text, lines and patterns to add.
        length: items before the end.
    """

    def __init__(
        self,
        pictures: Sequence[np.ndarray],
        *,
        scale: int = 4,
        patch: int = 24,
        seed: int = 0,
        reductions: Sequence[float] = (1.0, 0.6),
        synthetic: int = 24,
        length: int = 2**40,
    ) -> None:
        self.patch, self.scale, self.seed, self.length = patch, scale, seed, length
        self._pairs: list[tuple[np.ndarray, np.ndarray]] = []
        made = [synthetic_picture(seed * 1000 + index) for index in range(synthetic)]
        for picture in [*pictures, *made]:
            for factor in reductions:
                sized = picture
                if factor != 1.0:
                    height, width = (max(1, round(side * factor)) for side in picture.shape[:2])
                    sized = np.asarray(Image.fromarray(picture).resize((width, height), Image.Resampling.BICUBIC))
                large, small = reduce(sized, scale)
                if min(small.shape[:2]) >= patch:
                    self._pairs.append((large, small))
        if not self._pairs:
            raise UsageError(f"every picture is smaller than one {patch * scale}-pixel patch")
        areas = np.array([small.shape[0] * small.shape[1] for _, small in self._pairs], np.float64)
        self._cumulative = np.cumsum(areas / areas.sum())

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        """LR (3, patch, patch) and HR (3, patch·scale, patch·scale), uint8."""
        rng = np.random.default_rng((self.seed, index))
        choice = min(int(np.searchsorted(self._cumulative, rng.random())), len(self._pairs) - 1)
        large, small = self._pairs[choice]
        y = int(rng.integers(0, small.shape[0] - self.patch + 1))
        x = int(rng.integers(0, small.shape[1] - self.patch + 1))
        s, p = self.scale, self.patch
        pair = [small[y : y + p, x : x + p], large[y * s : (y + p) * s, x * s : (x + p) * s]]
        turns, mirror = int(rng.integers(0, 4)), rng.random() < 0.5
        low, high = (
            torch.from_numpy(np.ascontiguousarray(np.rot90(item[:, ::-1] if mirror else item, turns))).permute(2, 0, 1)
            for item in pair
        )
        return low, high


def batches(
    dataset: Dataset[tuple[Tensor, Tensor]], batch: int, start: int, workers: int = 0
) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches in order from item ``start · batch`` on, without end.

    Args:
        dataset: one whose item ``i`` depends on ``i`` alone.
        batch: items in a batch.
        start: batches to leave out (the steps already done).
        workers: loader processes; 0 reads in this one.
    """

    def indices() -> Iterator[int]:
        item = start * batch
        while True:
            yield item
            item += 1

    loader: DataLoader[tuple[Tensor, Tensor]] = DataLoader(
        dataset, batch_size=batch, sampler=_Endless(indices), num_workers=workers, persistent_workers=workers > 0
    )
    yield from loader


class _Endless:
    def __init__(self, make: object) -> None:
        self._make = make

    def __iter__(self) -> Iterator[int]:
        return self._make()  # type: ignore[operator, no-any-return]
