"""Images to learn from, whole and of one size: IDX files, or folders with one sub-folder for each class.

Which image is item ``i`` depends on the seed and ``i`` alone, so that a resumed run sees what an unbroken one would
have seen, with any number of loader workers.
"""

from __future__ import annotations

import functools
import hashlib
import logging
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from gankit.datasets.folders import fingerprint, image_files, read_image
from gankit.datasets.idx import Labelled, is_idx, official_files, read_labelled
from gankit.datasets.options import Fit
from gankit.datasets.pixels import fitted, to_gray
from gankit.errors import ImageError, UsageError

_log = logging.getLogger(__name__)
_LEVELS = (np.arange(256, dtype=np.float32) / 127.5) - 1
_KEPT = 512 * 2**20  # bytes of resized images that stay in memory


class WholeImages(Dataset[tuple[Tensor, int]]):
    """An endless set of images with their classes: all of them in a new order, then again in another.

    Args:
        data: a folder with the official IDX files, one IDX file, or a folder of images, read recursively, whose
            first level of sub-folders is the classes.
        side: height and width of an item.
        colours: 1 for gray, 3 for RGB.
        fit: see :func:`gankit.datasets.pixels.fitted`.
        part: of the official files, ``"train"`` or ``"t10k"``.
        mirror: every other item is mirrored, left for right.
        seed: of the order.
        length: items before the end.

    Attributes:
        count: how many different images there are.
        names: the classes in their order; empty where there are none.
        fingerprint: by which to know the data again, wherever it lies.

    Raises:
        UsageError: there are no images, or a file cannot be read.
    """

    def __init__(
        self,
        data: Path,
        *,
        side: int = 28,
        colours: int = 1,
        fit: Fit = "resize",
        part: Literal["train", "t10k"] = "train",
        mirror: bool = False,
        seed: int = 0,
        length: int = 2**40,
    ) -> None:
        self.side, self.colours, self.fit, self.mirror, self.seed = side, colours, fit, mirror, seed
        self.length = length
        self._files: list[Path] = []
        self._held: dict[int, np.ndarray | None] = {}  # None: cannot be read
        self._room = _KEPT
        file = data if data.is_file() else official_files(data, part)
        if file is not None and not is_idx(file):
            raise UsageError(
                f"{file}: is not an IDX file (…-ubyte, ….idx, with or without .gz); give a folder of images"
            )
        if file is not None:
            self._from_idx(read_labelled(file), file)
        else:
            self._from_folder(data)

    def _from_idx(self, found: Labelled, file: Path) -> None:
        self.count = len(found.images)
        try:
            images = [self._coloured(fitted(each, self.side, self.fit)) for each in found.images]
        except ValueError as error:
            raise UsageError(f"{file}: {error}: use --fit resize") from None
        self._images = np.stack(images)
        self._classes = found.classes
        self.names = [] if found.classes is None else [str(each) for each in range(int(found.classes.max()) + 1)]
        digest = hashlib.sha256(found.images.tobytes()).hexdigest()[:8]
        self.fingerprint = f"{self.count} images ({digest})"

    def _from_folder(self, folder: Path) -> None:
        self._files = image_files(folder)
        self.count = len(self._files)
        first = [path.relative_to(folder).parts[0] if path.parent != folder else "" for path in self._files]
        self.names = sorted(set(first) - {""})
        if "" in first:  # some lie in no sub-folder, and have no class
            self.names = []
        order = {name: index for index, name in enumerate(self.names)}
        self._classes = np.array([order[name] for name in first]) if self.names else None
        self.fingerprint = fingerprint(folder)
        if all(self._read(index) is None for index in range(self.count)):
            raise UsageError(f"{folder}: none of its images can be read")

    def _coloured(self, image: np.ndarray) -> np.ndarray:
        """(side, side[, 3]) -> (colours, side, side)."""
        if image.ndim == 2:
            return np.broadcast_to(image, (self.colours, *image.shape))
        if self.colours == 3:
            return image.transpose(2, 0, 1)
        return to_gray(image)[None]

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        """(C, side, side) float32 in [-1, 1], and the class (0 where there are none)."""
        round_, place = divmod(index, self.count)
        order, mirrored = _order(self.seed, round_, self.count)
        which = int(order[place])
        image, which = self._readable(which)
        if self.mirror and mirrored[place]:
            image = image[..., ::-1]
        return torch.from_numpy(_LEVELS[image]), 0 if self._classes is None else int(self._classes[which])

    def _readable(self, which: int) -> tuple[np.ndarray, int]:
        """The image of this number, or the next that can be read, and its number."""
        if not self._files:
            return self._images[which], which
        for step in range(self.count):
            following = (which + step) % self.count
            image = self._read(following)
            if image is not None:
                return image, following
        raise UsageError(f"{self._files[0].parent}: none of its images can be read any more")

    def _read(self, index: int) -> np.ndarray | None:
        """A file's image, (C, side, side) uint8; ``None``, and named in the log once, where it cannot be read."""
        if index in self._held:
            return self._held[index]
        try:
            pixels = read_image(self._files[index]).pixels
            image: np.ndarray | None = np.ascontiguousarray(self._coloured(fitted(pixels, self.side, self.fit)))
        except ImageError as error:
            _log.warning("skipped %s", error)
            image = None
        except ValueError as error:
            _log.warning("skipped %s: %s", self._files[index], error)
            image = None
        size = image.nbytes if image is not None else 0
        if size <= self._room:
            self._room -= size
            self._held[index] = image
        return image

    def first(self, count: int) -> tuple[Tensor, Tensor]:
        """The first items of the order, (N, C, side, side) and (N,) int64; at most all images."""
        items = [self[index] for index in range(min(count, self.count))]
        return torch.stack([image for image, _ in items]), torch.tensor([class_ for _, class_ in items])


@functools.lru_cache(maxsize=4)
def _order(seed: int, round_: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """The order of the images in one round through them, and which of them are mirrored."""
    rng = np.random.default_rng((seed, round_))
    return rng.permutation(count), rng.random(count) < 0.5
