"""How images are read, cut and fitted, as options. Imports neither torch nor numpy: the command line shows defaults."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

Fit = Literal["resize", "pad"]
Flips = Literal["none", "mirror", "all"]
Kind = Literal["auto", "colour", "gray", "mask", "labels"]

INDEXED: tuple[Kind, ...] = ("mask", "labels")
"""The kinds whose values are numbers of classes and are never mixed."""


@dataclass(frozen=True)
class Cut:
    """How training images are cut (Isola et al. 2017, section 6.2: resize 286, crop 256, mirror).

    Attributes:
        size: side of the square that the nets see, in pixels.
        zoom: lowest and highest factor by which an image is enlarged before the square is cut; the default is the
            paper's 286/256. Where an image would have no room for the square, it is enlarged until it has.
        flips: ``"mirror"`` left and right; ``"all"`` for images without an up, such as those of a microscope: also
            quarter turns.
        candidates: number of candidate crops, of which the one with the highest contrast is used.
    """

    size: int = 256
    zoom: tuple[float, float] = (1.0, 286 / 256)
    flips: Flips = "mirror"
    candidates: int = 1


@dataclass(frozen=True)
class ImageFolderData:
    """Where the images come from and how they are cut.

    Attributes:
        source: folder of inputs (A), or of pairs side by side where there is no ``target``.
        target: folder of targets (B).
        source_kind: see :func:`gankit.datasets.pairs.read_side`.
        target_kind: likewise.
        mask_from: lowest value of a mask that is set; ``None`` for masks of two values, see
            :func:`gankit.datasets.indices.to_masks`.
        turned: from B to A instead.
        load: bring the shorter side of every image to this many pixels first.
        cut: see :class:`gankit.datasets.options.Cut`.
        holdout: every N-th stem is held out for validation; 0 holds out none.
        batch: squares in a step.
        workers: loader processes.
        seed: of the squares and of the weight init.
    """

    source: Path
    target: Path | None = None
    source_kind: Kind = "auto"
    target_kind: Kind = "auto"
    mask_from: int | None = None
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
        first, second = (kind in INDEXED for kind in self.kinds)
        return first, second
