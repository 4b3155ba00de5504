"""Images that are held out of the training: every N-th name, so that training and evaluation agree on them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from gankit.errors import UsageError

T = TypeVar("T")


def held_out(stems: Sequence[str], every: int) -> tuple[list[str], list[str]]:
    """The stems to train on and those to validate on: sorted; every ``every``-th of them is held out.

    Args:
        stems: of all images.
        every: 5 holds out the 5th, the 10th, …; 0 holds out none.

    Raises:
        UsageError: nothing is left to train on, or nothing is held out.
    """
    if every == 0:
        return sorted(stems), []
    held = sorted(stems)[every - 1 :: every]
    trained = [stem for stem in sorted(stems) if stem not in set(held)]
    if not held or not trained:
        raise UsageError(
            f"--holdout {every}: {len(stems)} images are too few to train on and to hold out; 0 holds out none"
        )
    return trained, held


@dataclass(frozen=True)
class Split(Generic[T]):
    """Images, or pairs, by stem: to train on, and held out."""

    trained: Mapping[str, T]
    held: Mapping[str, T]


def split(items: Mapping[str, T], every: int) -> Split[T]:
    """Hold out every ``every``-th; see :func:`held_out`."""
    trained, held = held_out(list(items), every)
    return Split({stem: items[stem] for stem in trained}, {stem: items[stem] for stem in held})
