"""The images of a run of pix2pix or CycleGAN: where they come from, and which are held out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
from gankit_export.files import atomic_path

from gankit.datasets.holdout import Split, split
from gankit.datasets.options import ImageFolderData, Kind
from gankit.datasets.pairs import Pair, read_aligned, read_pairs, read_side
from gankit.errors import OutputError, UsageError
from gankit.models.facts import Facts


def read_paired(data: ImageFolderData) -> Split[Pair]:
    """(source, target) by stem.

    Raises:
        UsageError: there are too few.
    """
    kinds = (data.source_kind, data.target_kind)
    if data.target is None:
        pairs = read_aligned(data.source, *kinds, data.load, data.mask_from)
    else:
        pairs = read_pairs(data.source, data.target, *kinds, data.load, data.mask_from)
    return split({stem: (b, a) for stem, (a, b) in pairs.items()} if data.turned else pairs, data.holdout)


def read_unpaired(data: ImageFolderData) -> tuple[Split[np.ndarray], Split[np.ndarray]]:
    """The images of A and of B.

    Raises:
        UsageError: there are too few, or there is one folder only.
    """
    if data.target is None:
        raise UsageError("two folders are needed: give the images of A and of B")
    first, second = (
        split(read_side(folder, kind, data.load, data.mask_from), data.holdout)
        for folder, kind in ((data.source, data.source_kind), (data.target, data.target_kind))
    )
    return (second, first) if data.turned else (first, second)


def input_header_of(kind: Kind, images: Iterable[np.ndarray]) -> dict[str, str]:
    """Return what a weights file says about the input of its generator, so that ``gankit translate`` reads it alike.

    Args:
        kind: how the images of the input were read.
        images: the images with which the generator was trained, (H, W, C) uint8. Their labels are listed if ``kind`` is
            ``"labels"``.

    Returns:
        Entries for the ``metadata`` of :func:`gankit.checkpoints.save`; none for images.
    """
    from gankit.checkpoints.native import input_header

    if kind == "mask":
        return input_header(Facts(task="translate", value_range=(-1, 1), input_kind="mask"))
    if kind != "labels":
        return {}
    found = {int(label) for image in images for label in np.unique(image)}
    facts = Facts(task="translate", value_range=(-1, 1), input_kind="labels", labels=tuple(sorted(found)))
    return input_header(facts)


def write_held_out(folder: Path, held: Mapping[str, Mapping[str, object]]) -> None:
    """Write which images were held out, ``held_out.txt``: one stem a line.

    Args:
        folder: of the run.
        held: by the word that goes before the stems.

    Raises:
        OutputError: it cannot be written.
    """
    lines = [f"{start}{stem}" for start, stems in held.items() for stem in stems]
    path = folder / "held_out.txt"
    text = "".join(f"{line}\n" for line in lines)
    try:
        with atomic_path(path) as temporary:
            temporary.write_text(text, encoding="utf-8", errors="surrogateescape")
    except OSError as error:
        raise OutputError(f"{path}: cannot be written: {error.strerror or error}") from error
