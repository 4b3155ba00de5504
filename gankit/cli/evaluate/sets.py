"""Sets of pictures by their place: an IDX file, a folder of the official ones, or a folder of pictures."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from gankit.cli.evaluate.common import found
from gankit.errors import UsageError
from gankit.pipeline.paths import is_file, is_folder, why_not

if TYPE_CHECKING:
    import numpy as np


def picture_set(place: Path) -> tuple[str, Iterator[np.ndarray]]:
    """What a table calls the set, and its pictures as (N, H, W, C) uint8, part by part.

    Args:
        place: an IDX file, a folder of the four official ones (of which the training pictures are taken), or a folder
            of pictures.

    Raises:
        UsageError: there is nothing of the kind.
        ImageError: a picture cannot be read (at its turn).
    """
    from gankit.training.idx import is_idx, official_files

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
    """The name of a folder's official file of pictures, the pictures (N, H, W) and their classes (N,).

    Args:
        folder: of the four official files.
        part: ``"train"`` or ``"t10k"``.

    Raises:
        UsageError: they are not there, or damaged.
    """
    from gankit.training.idx import official_files, read_labelled

    images = official_files(found(folder), part)
    if images is None:
        raise UsageError(f"{folder}: holds no {part}-images-idx3-ubyte, gzipped or not")
    both = read_labelled(images)
    if both.classes is None:
        raise UsageError(f"{folder}: the labels of {images.name} are missing")
    return images.name, both.pictures, both.classes


def _idx(path: Path) -> Iterator[np.ndarray]:
    from gankit.training.idx import read_labelled

    pictures = read_labelled(path).pictures
    yield pictures[..., None] if pictures.ndim == 3 else pictures


def _folder(folder: Path) -> Iterator[np.ndarray]:
    from gankit.images import decode
    from gankit.training.data import picture_files

    for path in picture_files(folder):
        picture = decode(path).to_8bit()
        yield (picture.pixels[..., :1] if picture.gray else picture.pixels)[None]
