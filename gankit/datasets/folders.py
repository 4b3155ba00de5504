"""Folders of images: which files they hold, their pixels, and a fingerprint by which to know them again."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from gankit.errors import ImageError, UsageError
from gankit.images import SUFFIXES, decode

_log = logging.getLogger(__name__)


def image_files(folder: Path) -> list[Path]:
    """All images below a folder, sorted.

    Raises:
        UsageError: there are none.
    """
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    if not files:
        raise UsageError(f"{folder}: no images there; give a folder with PNG, JPEG, WebP, TIFF or BMP files")
    return files


def read_images(folder: Path) -> Iterator[np.ndarray]:
    """All readable images below a folder as (H, W, 3) uint8 RGB, one at a time; broken ones are named in the log.

    Gray becomes RGB, 16 bit is rounded to 8, transparency is dropped.

    Raises:
        UsageError: there are none, or none can be read.
    """
    readable = 0
    for path in image_files(folder):
        try:
            image = decode(path).to_8bit().pixels
        except ImageError as error:
            _log.warning("skipped %s", error)
            continue
        readable += 1
        yield image
    if not readable:
        raise UsageError(f"{folder}: none of its images can be read")


def fingerprint(folder: Path) -> str:
    """A fingerprint of a folder's images, wherever it lies, made of their names and sizes in bytes.

    Raises:
        UsageError: there are none.
    """
    files = image_files(folder)
    text = "\n".join(f"{path.relative_to(folder).as_posix()} {path.stat().st_size}" for path in files)
    return f"{len(files)} images ({hashlib.sha256(os.fsencode(text)).hexdigest()[:8]})"
