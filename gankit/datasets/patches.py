"""Patches for super-resolution, cut from images that are held in memory.

Which patch is item ``i`` depends on the seed and ``i`` alone, so that a resumed run sees what an unbroken one would
have seen, with any number of loader workers.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from gankit.datasets.synthetic import synthetic_image
from gankit.errors import UsageError

_log = logging.getLogger(__name__)


def reduce(image: np.ndarray, scale: int) -> tuple[np.ndarray, np.ndarray]:
    """The image cropped to a multiple of ``scale``, and its antialiased bicubic reduction.

    Bicubic with a = -0.5 and a support that grows with the factor, the outermost pixels repeated beyond the border,
    rounded to 8 bit: as the LR images of Set5 and Set14 were made (equal to them to 53 dB and more; where Pillow
    ignores what is beyond the border, the outermost two pixels differ by up to 14).

    Args:
        image: (H, W, 3) uint8, at least ``scale`` wide and high.
        scale: reduction factor.

    Returns:
        HR (h·scale, w·scale, 3) and LR (h, w, 3), uint8.

    Raises:
        ValueError: the image is smaller than one LR pixel.
    """
    height, width = (side // scale for side in image.shape[:2])
    if not height or not width:
        raise ValueError(f"an image of {image.shape[:2]} cannot be reduced {scale} times")
    large = image[: height * scale, : width * scale]
    reach = 2 * scale  # the kernel's
    wide = np.pad(large, ((reach, reach), (reach, reach), (0, 0)), mode="edge")
    box = (reach, reach, reach + width * scale, reach + height * scale)
    small = Image.fromarray(wide).resize((width, height), Image.Resampling.BICUBIC, box=box)
    return large, np.asarray(small)


def detail(pixels: np.ndarray) -> float:
    """Mean absolute difference of neighbours in the green channel, down and across, in 8-bit levels; at least 0.01."""
    green = pixels[..., 1].astype(np.int16)
    return max(0.01, float(np.abs(np.diff(green, axis=0)).mean() + np.abs(np.diff(green, axis=1)).mean()))


class SuperResolutionPatches(Dataset[tuple[Tensor, Tensor]]):
    """An endless set of (LR, HR) patches with flips, quarter turns and the colour channels in any order.

    Args:
        images: (H, W, 3) uint8 each; taken one at a time, and only the reductions kept.
        scale: HR side over LR side.
        patch: LR side of a patch in pixels.
        seed: of the choice of patches.
        reductions: every image is used at these sizes: a smaller copy is sharper per pixel. One in which a patch
            finds no room at any of them is used as it is.
        synthetic: how many images of text, lines and patterns to add.
        candidates: number of candidate patches, of which the one with the most detail is used. Half of all places in
            photographs are sky, blur and wall, which teach nothing.
        length: items before the end.

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
        reductions: Sequence[float] = (0.85, 0.75, 0.65, 0.57, 0.5, 0.43, 0.35, 0.3),
        synthetic: int = 24,
        candidates: int = 3,
        length: int = 2**40,
    ) -> None:
        self.patch, self.scale, self.seed, self.length = patch, scale, seed, length
        self.candidates = candidates
        self._pairs: list[tuple[np.ndarray, np.ndarray]] = []
        count = too_small = 0
        for image in images:
            pairs = self._cut(image, reductions)
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
        weights = np.array([small.shape[0] * small.shape[1] * detail(small) ** 0.5 for _, small in self._pairs])
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
            pairs.append(reduce(sized, self.scale))
        return pairs

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        """LR (3, patch, patch) and HR (3, patch·scale, patch·scale), uint8."""
        rng = np.random.default_rng((self.seed, index))
        choice = min(int(np.searchsorted(self._cumulative, rng.random())), len(self._pairs) - 1)
        large, small = self._pairs[choice]
        s, p = self.scale, self.patch
        places = [
            (int(rng.integers(0, small.shape[0] - p + 1)), int(rng.integers(0, small.shape[1] - p + 1)))
            for _ in range(self.candidates)
        ]
        y, x = max(places, key=lambda place: detail(small[place[0] : place[0] + p, place[1] : place[1] + p]))
        pair = [small[y : y + p, x : x + p], large[y * s : (y + p) * s, x * s : (x + p) * s]]
        turns, mirror = int(rng.integers(0, 4)), rng.random() < 0.5
        order = rng.permutation(3)
        low, high = (
            torch.from_numpy(np.rot90(item[:, ::-1] if mirror else item, turns)[..., order].copy()).permute(2, 0, 1)
            for item in pair
        )
        return low, high
