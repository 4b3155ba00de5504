"""The images of a run of pix2pix or CycleGAN: where they come from, which are held out, what tells runs apart."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Generic, TypeVar

import numpy as np

from gankit.errors import OutputError, UsageError
from gankit.training.crops import Cut
from gankit.training.data import fingerprint
from gankit.training.pairs import Kind, Pair, held_out, read_aligned, read_pairs, read_side
from gankit.training.recipes.adversary import TranslationOptions
from gankit.training.state import Settings

T = TypeVar("T")

_EXACT = ("mask", "labels")


@dataclass(frozen=True)
class ImageFolderData:
    """Where the images come from and how they are cut.

    Attributes:
        source: folder of inputs (A), or of pairs side by side where there is no ``target``.
        target: folder of targets (B).
        source_kind: see :func:`gankit.training.pairs.read_side`.
        target_kind: likewise.
        turned: from B to A instead.
        load: bring the shorter side of every image to this many pixels first.
        cut: see :class:`gankit.training.crops.Cut`.
        holdout: every so-many-th stem is held out to judge by; 0 for none.
        batch: squares in a step.
        workers: loader processes.
        seed: of the squares and of the initial weights.
    """

    source: Path
    target: Path | None = None
    source_kind: Kind = "auto"
    target_kind: Kind = "auto"
    turned: bool = False
    load: int | None = None
    cut: Cut = field(default_factory=Cut)
    holdout: int = 5
    batch: int = 1
    workers: int = 0
    seed: int = 0

    @property
    def kinds(self) -> tuple[Kind, Kind]:
        """Of what is translated, and of what it becomes."""
        kinds = (self.source_kind, self.target_kind)
        return kinds[::-1] if self.turned else kinds

    @property
    def exact(self) -> tuple[bool, bool]:
        """Of both, whether values are never mixed."""
        first, second = (kind in _EXACT for kind in self.kinds)
        return first, second


@dataclass(frozen=True)
class Split(Generic[T]):
    """Images, or pairs, by stem: to train on, and held out."""

    trained: Mapping[str, T]
    held: Mapping[str, T]


def split(items: Mapping[str, T], every: int) -> Split[T]:
    """Hold out every ``every``-th; see :func:`gankit.training.pairs.held_out`."""
    trained, held = held_out(list(items), every)
    return Split({stem: items[stem] for stem in trained}, {stem: items[stem] for stem in held})


def read_paired(data: ImageFolderData) -> Split[Pair]:
    """(source, target) by stem.

    Raises:
        UsageError: there are too few.
    """
    if data.target is None:
        pairs = read_aligned(data.source, data.source_kind, data.target_kind, data.load)
    else:
        pairs = read_pairs(data.source, data.target, data.source_kind, data.target_kind, data.load)
    return split({stem: (b, a) for stem, (a, b) in pairs.items()} if data.turned else pairs, data.holdout)


def read_unpaired(data: ImageFolderData) -> tuple[Split[np.ndarray], Split[np.ndarray]]:
    """The images of A and of B.

    Raises:
        UsageError: there are too few, or there is one folder only.
    """
    if data.target is None:
        raise UsageError("two folders are needed: give the images of A and of B")
    first, second = (
        split(read_side(folder, kind, data.load), data.holdout)
        for folder, kind in ((data.source, data.source_kind), (data.target, data.target_kind))
    )
    return (second, first) if data.turned else (first, second)


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
    try:
        path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8", errors="surrogateescape")
    except OSError as error:
        raise OutputError(f"{path}: cannot be written: {error.strerror or error}") from error


def settings_of(options: TranslationOptions, data: ImageFolderData) -> Settings:
    """What decides the result of a run."""
    flat: dict[str, int | float | str | bool | None] = {}
    for name, value in {**asdict(options), **asdict(data.cut)}.items():
        if name == "model":
            flat |= {f"model_{key}": str(each) if isinstance(each, list) else each for key, each in value.items()}
        else:
            flat[name] = str(value) if isinstance(value, list | tuple) else value
    for name, folder in (("source", data.source), ("target", data.target)):
        flat[name] = fingerprint(folder) if folder else None
    for name in ("source_kind", "target_kind", "turned", "load", "holdout", "batch", "seed"):
        flat[name] = getattr(data, name)
    return flat
