"""Masks and label maps as the input of a generator: read as indices and never as brightness. Imports no torch."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from gankit.errors import ImageError, UsageError
from gankit.images import MAX_PIXELS, DecodedImage, decode
from gankit.models.facts import Facts

if TYPE_CHECKING:
    from PIL import Image

_SHOWN = 8


def decode_indices(
    path: Path,
    facts: Facts,
    *,
    mask_from: int | None = None,
    max_pixels: int = MAX_PIXELS,
    max_bytes: int | None = None,
) -> DecodedImage:
    """Read a mask or a label map from a file.

    Args:
        path: an image file of any format that gankit reads.
        facts: facts of the generator, which say what it takes.
        mask_from: lowest value of a mask that is set; ``None`` takes masks of two values only.
        max_pixels: see :func:`gankit.images.decode`.
        max_bytes: see :func:`gankit.images.decode`.

    Returns:
        What :func:`from_indices` returns, with the metadata of the file except for those about colour.

    Raises:
        ImageError: If the file cannot be read, or is not what the generator takes.
    """
    from gankit.datasets.indices import indices, stored_values

    image = decode(path, max_pixels=max_pixels, max_bytes=max_bytes, hdr=True)
    if image.hdr is not None:
        raise ImageError(path, "masks and label maps are whole numbers, not floating point; convert it to 8 or 16 bits")
    try:
        made = from_indices(indices(stored_values(path, image), path), facts, path, mask_from)
    except UsageError as error:
        raise ImageError(path, str(error).removeprefix(f"{path}: ")) from error
    return replace(image, pixels=made.pixels, alpha=None, gray=True, icc_profile=None, png_colour=())


def from_indices(values: np.ndarray, facts: Facts, name: Path | str, mask_from: int | None = None) -> DecodedImage:
    """Convert indices to the gray image that the generator takes.

    The two values of a mask become 0 and 255, by the rule of :func:`gankit.datasets.indices.to_masks` for one file.
    Labels stay as they are.

    Args:
        values: (H, W) or, with equal channels, (H, W, C); boolean, whole numbers or, for a mask, floating point.
        facts: facts of the generator.
        name: file or argument to name in errors.
        mask_from: see :func:`decode_indices`.

    Raises:
        UsageError: If the values are no mask, or no labels that the generator knows.
    """
    from gankit.datasets.indices import indices, to_labels, to_masks

    values = indices(values, name)
    if values.dtype.kind == "b":
        values = values.astype(np.uint8) * np.uint8(255 if facts.input_kind == "mask" else 1)
    if facts.input_kind == "mask":
        mask = to_masks({str(name): values}, mask_from)[str(name)]
        return _gray(np.where(mask, np.uint8(255), np.uint8(0)))
    if values.dtype.kind not in "iu":
        raise UsageError(f"{name}: a label map holds whole numbers, not {values.dtype}")
    if values.size and int(values.min()) < 0:
        raise UsageError(f"{name}: has the label {int(values.min())}, and labels start at 0; renumber the labels")
    labels = to_labels(values, name)
    if facts.labels and (unknown := sorted({*map(int, np.unique(labels))}.difference(facts.labels))):
        known = ", ".join(map(str, facts.labels[:_SHOWN])) + (", …" if len(facts.labels) > _SHOWN else "")
        raise UsageError(
            f"{name}: has the label {unknown[0]}, but '{facts.name}' was trained with the labels {known}; renumber the "
            "labels"
        )
    return _gray(labels)


def pillow_indices(image: Image.Image) -> np.ndarray:
    """Return the indices of a Pillow image as it stores them, (H, W) or (H, W, C), upright.

    Raises:
        UsageError: If the image is transparent or has pixels that are no indices.
    """
    from PIL import ImageOps

    if image.mode in ("LA", "RGBA", "PA", "La", "RGBa") or "transparency" in image.info:
        raise UsageError("a mask or label map cannot be transparent; convert it to mode L or P")
    if image.mode not in ("1", "L", "P", "I", "RGB") and not image.mode.startswith("I;16"):
        raise UsageError(f"a Pillow image of mode {image.mode} is no mask or label map; convert it to mode L or P")
    return np.asarray(ImageOps.exif_transpose(image))


def _gray(plane: np.ndarray) -> DecodedImage:
    return DecodedImage(np.repeat(plane[..., None], 3, axis=2), gray=True)
