"""IDX files, the format of MNIST and Fashion-MNIST (http://yann.lecun.com/exdb/mnist), plain or gzipped."""

from __future__ import annotations

import gzip
import io
import math
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np

from gankit.errors import UsageError

_UINT8 = 0x08
_LARGEST = 2**33  # bytes; a header that says more is damaged
_AGAIN = "copy or download it again"


@dataclass(frozen=True)
class Labelled:
    """Images with their classes.

    Attributes:
        images: (N, H, W) gray or (N, H, W, 3) RGB, uint8.
        classes: (N,) int64; ``None`` where there are no labels.
    """

    images: np.ndarray
    classes: np.ndarray | None


def read_idx(path: Path) -> np.ndarray:
    """One IDX file of unsigned bytes.

    Args:
        path: the file; gzip is recognised by its first bytes, not by its name.

    Returns:
        An array of the file's own shape, uint8.

    Raises:
        UsageError: it cannot be read, is no such file, or is cut short.
    """
    try:
        with path.open("rb") as raw:
            zipped = raw.read(2) == b"\x1f\x8b"
            raw.seek(0)
            with gzip.GzipFile(fileobj=raw) if zipped else raw as file:
                return _read(path, file)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise UsageError(f"{path}: the gzip file is damaged or cut short: {_AGAIN}") from error
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror or error}") from error


def is_idx(path: Path) -> bool:
    """Whether a file's name is that of an IDX file: ``…-ubyte`` or ``….idx``, with or without ``.gz``."""
    name = path.name.lower().removesuffix(".gz")
    return name.endswith(("ubyte", ".idx"))


def read_labelled(images: Path, labels: Path | None = None) -> Labelled:
    """A file of images and that of their classes.

    Args:
        images: IDX file of 3 dimensions (gray), or 4 with 3 colours last.
        labels: IDX file of 1 dimension; ``None`` for the one beside it that is named like it (``images-idx3`` becomes
            ``labels-idx1``), where there is one.

    Raises:
        UsageError: a file is none of these, or they do not have as many entries.
    """
    array = read_idx(images)
    if array.ndim not in (3, 4) or array.shape[3:] not in ((), (3,)) or not array.size:
        raise UsageError(f"{images}: holds no images but an array of {array.shape}: give the file of the images")
    if labels is None:
        beside = [_labels_name(images.name), _labels_name(images.name).removesuffix(".gz")]
        beside.append(beside[1] + ".gz")
        labels = next((images.with_name(name) for name in beside if _is_other(images, name)), None)
    if labels is None:
        return Labelled(array, None)
    classes = read_idx(labels)
    if classes.shape != (len(array),):
        raise UsageError(
            f"{labels}: has labels of shape {classes.shape} for the {len(array)} images of {images.name}: "
            "give files that belong together"
        )
    return Labelled(array, classes.astype(np.int64))


def official_files(folder: Path, part: str = "train") -> Path | None:
    """The official file of images in a folder, ``train-images-idx3-ubyte`` or the like; ``None`` where there is none.

    Args:
        folder: as downloaded; the files may be gzipped, and have a dot for the second dash.
        part: ``"train"`` or ``"t10k"``.
    """
    names = (f"{part}-images{mark}idx3-ubyte{end}" for mark in "-." for end in ("", ".gz"))
    return next((folder / name for name in names if (folder / name).is_file()), None)


def _labels_name(name: str) -> str:
    return name.replace("images", "labels").replace("idx3", "idx1").replace("idx4", "idx1")


def _is_other(images: Path, name: str) -> bool:
    return name != images.name and images.with_name(name).is_file()


def _read(path: Path, file: IO[bytes] | gzip.GzipFile) -> np.ndarray:
    start = file.read(4)
    if len(start) < 4 or start[:2] != b"\0\0" or not 1 <= start[3] <= 4:
        raise UsageError(
            f"{path}: is not an IDX file (it must begin with two zero bytes, a type and 1 to 4 dimensions)"
        )
    if start[2] != _UINT8:
        raise UsageError(f"{path}: holds values of type 0x{start[2]:02x}; only unsigned bytes (0x08) are images")
    header = file.read(4 * start[3])
    if len(header) < 4 * start[3]:
        raise UsageError(f"{path}: is cut short within its header: {_AGAIN}")
    shape = tuple(int(side) for side in np.frombuffer(header, ">u4"))
    wanted = math.prod(shape)
    if wanted > _LARGEST:
        raise UsageError(f"{path}: its header claims {wanted} bytes, more than any IDX file has: {_AGAIN}")
    values = _at_most(file, wanted + 1)
    if len(values) != wanted:
        what = "is cut short: it has" if len(values) < wanted else "is too long: it has more than"
        raise UsageError(f"{path}: {what} {min(len(values), wanted)} of {wanted} bytes: {_AGAIN}")
    return np.frombuffer(values, np.uint8).reshape(shape)


def _at_most(file: IO[bytes] | gzip.GzipFile, count: int) -> bytes:
    """Up to ``count`` bytes, piece by piece: a damaged header must not allocate what it says before it is there."""
    kept = io.BytesIO()
    while count and (piece := file.read(min(count, 1 << 22))):
        kept.write(piece)
        count -= len(piece)
    return kept.getvalue()
