"""Images to translate, read into memory: pairs by stem, pairs side by side, and folders without pairs."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from gankit.datasets.folders import image_files, read_image
from gankit.datasets.indices import indices, stored_values, to_labels, to_masks
from gankit.datasets.options import INDEXED, Kind
from gankit.datasets.pixels import resized, to_gray
from gankit.errors import ImageError, UsageError

Pair = tuple[np.ndarray, np.ndarray]

_log = logging.getLogger(__name__)
_DARK = 16  # images without a value from here on are no photographs


def read_side(
    folder: Path, kind: Kind = "auto", load: int | None = None, mask_from: int | None = None
) -> dict[str, np.ndarray]:
    """All readable images below a folder, by stem and sorted; broken ones are named in the log.

    Args:
        folder: read recursively; a stem is the path below it without the suffix.
        kind: ``"colour"``, ``"gray"`` (BT.601 luma), ``"mask"`` (0 and 255, by the rule of
            :func:`gankit.datasets.indices.to_masks`), ``"labels"`` (classes as the file numbers them, see
            :mod:`gankit.datasets.indices`), or ``"auto"``: gray where every image is, else colour.
        load: bring the shorter side to this many pixels.
        mask_from: lowest value of a mask that is set; ``None`` for masks of two values.

    Returns:
        (H, W, 3) or (H, W, 1) uint8 by stem.

    Raises:
        UsageError: there are none, none can be read, or one is no mask or label map though ``kind`` says so.
    """
    if kind in INDEXED:
        values, places = _by_stem(folder, stored_values)
        return _classes(values, places, kind, load, mask_from)
    images, _ = _by_stem(folder, _pixels)
    _warn_of_classes(folder, images)
    return _brightness(images, kind, load)


def read_results(folder: Path) -> dict[str, np.ndarray]:
    """Results that are compared with masks, by stem.

    Where they are masks of two values themselves, by the rule of :func:`gankit.datasets.indices.to_masks`, they become
    0 and 255. Otherwise they are images whose gray is a certainty, as a generator makes them.

    Raises:
        UsageError: there are none, or none can be read.
    """
    try:
        return read_side(folder, "mask")
    except UsageError:
        return read_side(folder)


def _by_stem(folder: Path, read: Callable[[Path], np.ndarray]) -> tuple[dict[str, np.ndarray], dict[str, Path]]:
    """What ``read`` makes of each readable image of a folder, and the files, by stem."""
    found: dict[str, np.ndarray] = {}
    places: dict[str, Path] = {}
    for path in image_files(folder):
        stem = path.relative_to(folder).with_suffix("").as_posix()
        try:
            values = read(path)
        except ImageError as error:
            _log.warning("skipped %s", error)
            continue
        if stem in found:
            _log.warning("skipped %s: another image there has the same stem", path)
            continue
        found[stem], places[stem] = values, path
    if not found:
        raise UsageError(f"{folder}: none of its images can be read")
    return found, places


def _pixels(path: Path) -> np.ndarray:
    """(H, W, 3), or (H, W, 1) of a gray image, uint8."""
    image = read_image(path)
    return image.pixels[..., :1] if image.gray else image.pixels


def _warn_of_classes(folder: Path, images: Mapping[str, np.ndarray]) -> None:
    """Say where images are so dark that they are masks or label maps."""
    highest = max(int(pixels.max()) for pixels in images.values())
    if 0 < highest < _DARK:
        _log.warning(
            "%s: no value is above %d of 255, so that its images are nearly black; if they are masks or label maps, "
            "say so (train: --target-kind or --source-kind; evaluate translate: --masks or --source-kind)",
            folder,
            highest,
        )


def _brightness(found: Mapping[str, np.ndarray], kind: Kind, load: int | None) -> dict[str, np.ndarray]:
    """Images of one kind and size of the shorter side, by stem and sorted."""
    if kind == "auto":
        kind = "gray" if all(pixels.shape[2] == 1 for pixels in found.values()) else "colour"
    result = {}
    for stem in sorted(found):
        pixels = found[stem]
        if kind == "colour" and pixels.shape[2] == 1:
            pixels = np.repeat(pixels, 3, axis=2)
        elif kind == "gray" and pixels.shape[2] == 3:
            pixels = to_gray(pixels)[..., None]
        result[stem] = _loaded(pixels, load, exact=False)
    return result


def _classes(
    found: Mapping[str, np.ndarray], places: Mapping[str, Path], kind: Kind, load: int | None, mask_from: int | None
) -> dict[str, np.ndarray]:
    """Masks or label maps, (H, W, 1) uint8, by stem and sorted."""
    values = {places[stem]: indices(found[stem], places[stem]) for stem in sorted(found)}
    if kind == "mask":
        masks = to_masks(values, mask_from)
        if len({bool(value) for mask in masks.values() for value in (mask.min(), mask.max())}) == 1:
            _log.warning(
                "every one of %d masks is %s", len(masks), "full" if next(iter(masks.values())).all() else "empty"
            )
        made = {path: np.where(mask, np.uint8(255), np.uint8(0)) for path, mask in masks.items()}
    else:
        if lossy := [path for path in values if path.suffix.lower() in (".jpg", ".jpeg")]:
            _log.warning("%s: JPEG changes the numbers of a label map; save label maps as PNG", lossy[0])
        made = {path: to_labels(each, path) for path, each in values.items()}
    return {stem: _loaded(made[places[stem]][..., None], load, exact=True) for stem in sorted(found)}


def _loaded(pixels: np.ndarray, load: int | None, *, exact: bool) -> np.ndarray:
    """With a shorter side of ``load`` pixels."""
    if load is not None:
        height, width = pixels.shape[:2]
        factor = load / min(height, width)
        size = max(load, round(height * factor)), max(load, round(width * factor))
        pixels = resized(pixels, size, exact=exact)
    return np.ascontiguousarray(pixels)


def read_pairs(
    source: Path,
    target: Path,
    source_kind: Kind = "auto",
    target_kind: Kind = "auto",
    load: int | None = None,
    mask_from: int | None = None,
) -> dict[str, Pair]:
    """The images of two folders that have the same stem, as (source, target) by stem.

    Images without a partner, and pairs of unequal sizes, are left out and named in the log.

    Raises:
        UsageError: no pair is left, or see :func:`read_side`.
    """
    first, second = read_side(source, source_kind, load, mask_from), read_side(target, target_kind, load, mask_from)
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
    folder: Path,
    source_kind: Kind = "auto",
    target_kind: Kind = "auto",
    load: int | None = None,
    mask_from: int | None = None,
) -> dict[str, Pair]:
    """Pairs that lie side by side in one image, A left and B right, as (A, B) by stem.

    Raises:
        UsageError: no image can be read, none has two halves, or see :func:`read_side`.
    """
    kinds = (source_kind, target_kind)
    readers = [stored_values if kind in INDEXED else _pixels for kind in kinds]
    read = {reader: _by_stem(folder, reader) for reader in readers}
    sides = [
        _half(folder, place, *read[reader], kind, load, mask_from)
        for place, (reader, kind) in enumerate(zip(readers, kinds, strict=True))
    ]
    return {stem: (sides[0][stem], sides[1][stem]) for stem in sides[0]}


def _half(
    folder: Path,
    place: int,
    found: Mapping[str, np.ndarray],
    places: Mapping[str, Path],
    kind: Kind,
    load: int | None,
    mask_from: int | None,
) -> dict[str, np.ndarray]:
    """The left (0) or right (1) halves of a folder's images."""
    halves = {}
    for stem, values in found.items():
        middle = values.shape[1] // 2
        if values.shape[1] % 2 or not middle:
            if place == 0:  # said once
                _log.warning("skipped %s: its width is odd: two images side by side must have the same width", stem)
            continue
        halves[stem] = values[:, place * middle : (place + 1) * middle]
    if not halves:
        raise UsageError(f"{folder}: no image there shows a pair side by side")
    if kind in INDEXED:
        return _classes(halves, places, kind, load, mask_from)
    return _brightness({stem: _gray_where_equal(part) for stem, part in halves.items()}, kind, load)


def _gray_where_equal(pixels: np.ndarray) -> np.ndarray:
    """One channel where all three are equal; half of a file in colour may well be gray."""
    return pixels[..., :1] if (pixels == pixels[..., :1]).all() else pixels


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _size(pixels: np.ndarray) -> str:
    return f"{pixels.shape[1]}×{pixels.shape[0]}"
