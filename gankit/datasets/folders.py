"""Folders of images: which files they hold, their pixels, and a fingerprint by which to know them again.

Two rules hold wherever images are read for training or evaluation, and both are made here: hidden files and folders
and what archives leave behind are no data (:func:`is_data`), and transparency is laid on white (:func:`read_image`).
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from gankit.datasets.ahead import in_order
from gankit.errors import ImageError, UsageError
from gankit.images import SUFFIXES, DecodedImage, decode
from gankit.images.alpha import flatten

_log = logging.getLogger(__name__)


def is_data(path: Path, folder: Path) -> bool:
    """Whether something below a folder is data of it.

    Hidden files and folders are not: ``.ipynb_checkpoints``, macOS's ``._*``, trash and thumbnails. Neither is
    ``__MACOSX``, which macOS adds to archives. Only the part below the folder counts: a folder that is named by the
    user may be hidden itself.

    Args:
        path: of a file or folder below ``folder``.
        folder: that was named.
    """
    return not any(part.startswith(".") or part == "__MACOSX" for part in path.relative_to(folder).parts)


def image_files(folder: Path, *, recursive: bool = True) -> list[Path]:
    """All images in a folder, sorted; see :func:`is_data` for what is passed over.

    Args:
        folder: to look in.
        recursive: look in the folders below it too.

    Raises:
        UsageError: there are none.
    """
    found = folder.rglob("*") if recursive else folder.iterdir()
    files = sorted(path for path in found if path.suffix.lower() in SUFFIXES and is_data(path, folder))
    if not files:
        raise UsageError(f"{folder}: no images there; give a folder with PNG, JPEG, WebP, TIFF or BMP files")
    return files


def read_image(path: Path) -> DecodedImage:
    """One image as training and evaluation see it: 8 bit, without transparency.

    16 bit is rounded to 8. Transparent parts are laid on white, as they are where a format holds no transparency: the
    colours under them are arbitrary and never show.

    Raises:
        ImageError: it cannot be read.
    """
    image = decode(path)
    if image.alpha is not None:
        image = replace(image, pixels=flatten(image.pixels, image.alpha), alpha=None)
    return image.to_8bit()


def read_images(*folders: Path) -> Iterator[np.ndarray]:
    """All readable images below folders as (H, W, 3) uint8 RGB, in order; broken ones are named in the log.

    A few are decoded ahead by threads. Gray becomes RGB; see :func:`read_image` for depth and transparency.

    Raises:
        UsageError: a folder has none, or none of its images can be read.
    """
    for folder in folders:
        readable = 0
        for image in in_order(_readable, image_files(folder)):
            if isinstance(image, ImageError):
                _log.warning("skipped %s", image)
                continue
            readable += 1
            yield image
        if not readable:
            raise UsageError(f"{folder}: none of its images can be read")


def _readable(path: Path) -> np.ndarray | ImageError:
    try:
        return read_image(path).pixels
    except ImageError as error:
        return error


def fingerprint(*folders: Path) -> str:
    """A fingerprint of the images of folders, wherever they lie, made of their names and sizes in bytes.

    Raises:
        UsageError: a folder has none.
    """
    found = [(path, folder) for folder in folders for path in image_files(folder)]
    text = "\n".join(f"{path.relative_to(folder).as_posix()} {path.stat().st_size}" for path, folder in found)
    return f"{len(found)} images ({hashlib.sha256(os.fsencode(text)).hexdigest()[:8]})"
