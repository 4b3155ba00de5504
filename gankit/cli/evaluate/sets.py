"""Sets of images by their place: an IDX file, a folder of the official ones, or a folder of images."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from gankit.cli.evaluate.common import found
from gankit.errors import UsageError
from gankit.pipeline.paths import is_file, is_folder, why_not

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor


def image_set(place: Path) -> tuple[str, Iterator[np.ndarray]]:
    """What a table calls the set, and its images as (N, H, W, C) uint8, part by part.

    Args:
        place: an IDX file, a folder of the four official ones (of which the training images are taken), or a folder
            of images.

    Raises:
        UsageError: there is nothing of the kind.
        ImageError: an image cannot be read (at its turn).
    """
    from gankit.datasets.idx import is_idx, official_files

    path = found(place)
    if is_folder(path):
        official = official_files(path)
        if official is None:
            return str(place), _folder(path)
        return str(place / official.name), _idx(official)
    if not is_file(path):
        raise UsageError(f"{place}: {why_not(path)}")
    if not is_idx(path):
        raise UsageError(f"{place}: give an IDX file (…-ubyte, ….idx, also .gz) or a folder")
    return str(place), _idx(path)


def labelled(folder: Path, part: str) -> tuple[str, np.ndarray, np.ndarray]:
    """The name of a folder's official file of images, the images (N, H, W) and their classes (N,).

    Args:
        folder: of the four official files.
        part: ``"train"`` or ``"t10k"``.

    Raises:
        UsageError: they are not there, or damaged.
    """
    from gankit.datasets.idx import official_files, read_labelled

    images = official_files(found(folder), part)
    if images is None:
        raise UsageError(f"{folder}: holds no {part}-images-idx3-ubyte, gzipped or not")
    both = read_labelled(images)
    if both.classes is None:
        raise UsageError(f"{folder}: the labels of {images.name} are missing")
    return images.name, both.images, both.classes


def labelled_tensors(folder: Path, part: str) -> tuple[str, Tensor, Tensor]:
    """As :func:`labelled`, the images (N, 1, H, W) uint8 and the classes (N,) as tensors."""
    import torch

    name, images, classes = labelled(folder, part)
    # copies: the file's own memory cannot be written to, which torch warns of
    return name, torch.from_numpy(images.copy())[:, None], torch.from_numpy(classes.copy())


def _idx(path: Path) -> Iterator[np.ndarray]:
    from gankit.datasets.idx import read_labelled

    images = read_labelled(path).images
    yield images[..., None] if images.ndim == 3 else images


def _folder(folder: Path) -> Iterator[np.ndarray]:
    from gankit.datasets.folders import image_files, read_image

    for path in image_files(folder):
        image = read_image(path)
        yield (image.pixels[..., :1] if image.gray else image.pixels)[None]
