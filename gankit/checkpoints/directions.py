"""Which generator of a pair to read: CycleGAN and its kin train one from A to B and one from B to A together."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from gankit.errors import CheckpointError
from gankit.models.facts import Direction

# The names of the two as keys and prefixes, in lower case and without underscores: netG_A, G_A2B, genA2B, …
# As in the paper, G_A is the generator that takes images of A.
_STEMS = ("netg", "g", "gen", "generator")
_NAMES: Mapping[Direction, frozenset[str]] = {
    "AtoB": frozenset(stem + end for stem in _STEMS for end in ("a", "ab", "a2b")),
    "BtoA": frozenset(stem + end for stem in _STEMS for end in ("b", "ba", "b2a")),
}
_FILE = re.compile(r"(.*(?:^|_)G_)([AB])(\..+)?$")  # latest_net_G_A.pth, 200_net_G_B.pth
_SIDE: Mapping[Direction, str] = {"AtoB": "A", "BtoA": "B"}


def pick(path: Path, found: Mapping[str, object], direction: Direction | None) -> Mapping[str, object]:
    """The part of a checkpoint that belongs to one direction; the whole checkpoint where it holds no pair.

    Args:
        path: for messages.
        found: what the file holds: dictionaries of tensors by key, or tensors by dotted name.
        direction: the one to read, or ``None`` where the user gave none.

    Raises:
        CheckpointError: the checkpoint holds both directions and none was asked for, or only the other one.
    """
    sides: dict[Direction, dict[str, object]] = {"AtoB": {}, "BtoA": {}}
    for key, value in found.items():
        first, _, rest = key.partition(".")
        for side, names in _NAMES.items():
            if first.lower().replace("_", "") in names:
                sides[side].update(value if isinstance(value, Mapping) and not rest else {rest: value})
    held = [side for side, part in sides.items() if part]
    if not held:
        return found
    if direction is None:
        if len(held) == 2:
            raise CheckpointError(f"{path}: holds the generators of both directions: give --direction AtoB or BtoA")
        direction = held[0]
    if direction not in held:
        raise CheckpointError(f"{path}: holds the direction {held[0]} only: omit --direction")
    return sides[direction]


def holds_direction(path: Path) -> bool:
    """Whether the name of a file says that it is one of a pair."""
    return _FILE.match(path.name) is not None


def file_for(path: Path, direction: Direction) -> Path:
    """The file of that direction, where a pair is kept in two files ``…_G_A`` and ``…_G_B``.

    Raises:
        CheckpointError: the name of the file says that it is the other direction, and the one asked for is not beside
            it; or the name says nothing.
    """
    named = _FILE.match(path.name)
    if named is None:
        raise CheckpointError(
            f"{path}: holds one generator, and neither its keys nor its name show the direction: omit --direction"
        )
    wanted = path.with_name(f"{named[1]}{_SIDE[direction]}{named[3] or ''}")
    if wanted != path and not wanted.is_file():
        raise CheckpointError(f"{path}: holds the other direction, and there is no {wanted.name} beside it")
    return wanted


def holds_pair(found: Mapping[str, object]) -> bool:
    """Whether the keys name a direction."""
    known = frozenset.union(*_NAMES.values())
    return any(key.partition(".")[0].lower().replace("_", "") in known for key in found)
