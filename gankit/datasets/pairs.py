"""Images to translate, read into memory: pairs by stem, pairs side by side, and folders without pairs."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from gankit.datasets.folders import image_files
from gankit.datasets.options import MASK_FROM, Kind
from gankit.datasets.pixels import resized, to_gray
from gankit.errors import ImageError, UsageError
from gankit.images import decode

Pair = tuple[np.ndarray, np.ndarray]

_log = logging.getLogger(__name__)


def read_side(folder: Path, kind: Kind = "auto", load: int | None = None) -> dict[str, np.ndarray]:
    """All readable images below a folder, by stem and sorted; broken ones are named in the log.

    Args:
        folder: read recursively; a stem is the path below it without the suffix.
        kind: ``"colour"``, ``"gray"`` (BT.601 luma), ``"mask"`` (0 and 255: set from 64 on), ``"labels"`` (gray levels
            that are never mixed), or ``"auto"``: gray where every image is, else colour.
        load: bring the shorter side to this many pixels.

    Returns:
        (H, W, 3) or (H, W, 1) uint8 by stem.

    Raises:
        UsageError: there are none, or none can be read.
    """
    found: dict[str, np.ndarray] = {}
    for path in image_files(folder):
        stem = path.relative_to(folder).with_suffix("").as_posix()
        try:
            image = decode(path).to_8bit()
        except ImageError as error:
            _log.warning("skipped %s", error)
            continue
        if stem in found:
            _log.warning("skipped %s: another image there has the same stem", path)
            continue
        found[stem] = image.pixels[..., :1] if image.gray else image.pixels
    if not found:
        raise UsageError(f"{folder}: none of its images can be read")
    return _converted(found, kind, load)


def _converted(found: Mapping[str, np.ndarray], kind: Kind, load: int | None) -> dict[str, np.ndarray]:
    if kind == "auto":
        kind = "gray" if all(pixels.shape[2] == 1 for pixels in found.values()) else "colour"
    result = {}
    for stem in sorted(found):
        pixels = _as_kind(found[stem], kind)
        if load is not None:
            height, width = pixels.shape[:2]
            factor = load / min(height, width)
            size = max(load, round(height * factor)), max(load, round(width * factor))
            pixels = resized(pixels, size, exact=kind in ("mask", "labels"))
        result[stem] = np.ascontiguousarray(pixels)
    return result


def _as_kind(pixels: np.ndarray, kind: Kind) -> np.ndarray:
    if kind == "colour":
        return np.repeat(pixels, 3, axis=2) if pixels.shape[2] == 1 else pixels
    if pixels.shape[2] == 3:
        pixels = to_gray(pixels)[..., None]
    return np.where(pixels >= MASK_FROM, np.uint8(255), np.uint8(0)) if kind == "mask" else pixels


def read_pairs(
    source: Path, target: Path, source_kind: Kind = "auto", target_kind: Kind = "auto", load: int | None = None
) -> dict[str, Pair]:
    """The images of two folders that have the same stem, as (source, target) by stem.

    Images without a partner, and pairs of unequal sizes, are left out and named in the log.

    Raises:
        UsageError: no pair is left.
    """
    first, second = read_side(source, source_kind, load), read_side(target, target_kind, load)
    alone = sorted(first.keys() ^ second.keys())
    if alone:
        _log.warning("%d images have no partner: %s", len(alone), _some(alone))
    pairs = {}
    for stem in sorted(first.keys() & second.keys()):
        if first[stem].shape[:2] == second[stem].shape[:2]:
            pairs[stem] = (first[stem], second[stem])
        else:
            _log.warning("skipped %s: %s and %s pixels", stem, _size(first[stem]), _size(second[stem]))
    if not pairs:
        raise UsageError(f"{source} and {target}: no two images have the same stem and size")
    return pairs


def read_aligned(
    folder: Path, source_kind: Kind = "auto", target_kind: Kind = "auto", load: int | None = None
) -> dict[str, Pair]:
    """Pairs that lie side by side in one image, A left and B right, as (A, B) by stem.

    Raises:
        UsageError: no image can be read, or none has two halves.
    """
    halves: tuple[dict[str, np.ndarray], dict[str, np.ndarray]] = ({}, {})
    for stem, pixels in read_side(folder, "colour").items():
        middle = pixels.shape[1] // 2
        if pixels.shape[1] % 2:
            _log.warning("skipped %s: its width is odd: two images side by side must have the same width", stem)
            continue
        for side, part in zip(halves, (pixels[:, :middle], pixels[:, middle:]), strict=True):
            gray = bool((part[..., 0] == part[..., 1]).all() and (part[..., 1] == part[..., 2]).all())
            side[stem] = part[..., :1] if gray else part
    if not halves[0]:
        raise UsageError(f"{folder}: no image there shows a pair side by side")
    left, right = _converted(halves[0], source_kind, load), _converted(halves[1], target_kind, load)
    return {stem: (left[stem], right[stem]) for stem in left}


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _size(pixels: np.ndarray) -> str:
    return f"{pixels.shape[1]}×{pixels.shape[0]}"
