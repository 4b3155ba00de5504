"""ESRGAN's RRDBNet under its three sets of names: the first of xinntao's, the second, and BasicSR's and mmagic's."""

from __future__ import annotations

import math
from collections.abc import Mapping

from torch import Tensor

from gankit.checkpoints.layouts.base import Match, count, dims, rename
from gankit.checkpoints.layouts.numbered import numbered_rules

_UPS = r"(?:conv_up|upconv)(\d+)"
_DENSE = [
    (rf"(?:body|RRDB_trunk)\.(\d+)\.(?:rdb|RDB){block + 1}\.conv{conv + 1}\.", rf"body.\1.dense.{block}.convs.{conv}.")
    for block in range(3)
    for conv in range(5)
]


def match(state: Mapping[str, Tensor]) -> Match | None:
    """Recognised by the first convolution of the first dense block; values are RGB in [0, 1] on both sides.

    In the second and third set of names, the channels of ``conv_first`` show by how much ×1 and ×2 fold the input:
    BasicSR's networks always enlarge by 4 after it.
    """
    dense = next((n for n in ("body.0.rdb1.conv1.weight", "RRDB_trunk.0.RDB1.conv1.weight") if n in state), None)
    head, tail = dims(state, "conv_first.weight"), dims(state, "conv_last.weight")
    if dense is None or len(head) != 4 or len(tail) != 4 or len(dims(state, dense)) != 4:
        return None
    ups = count(state, rf"{_UPS}\.weight")
    rules = [*_DENSE, (r"conv_first\.", "head."), (r"(?:conv_body|trunk_conv)\.", "neck.")]
    rules += [(r"(?:conv_hr|HRconv)\.", "last.0."), (r"conv_last\.", "tail.")]
    rules += [(rf"(?:conv_up|upconv){index + 1}\.", f"upsampler.{index}.1.") for index in range(ups)]
    blocks = count(state, r"(?:body|RRDB_trunk)\.\d+\.(?:rdb|RDB)1\.conv1\.weight")
    return _matched(rename(state, rules), head, tail, dims(state, dense)[0], blocks, 2**ups)


def match_old(state: Mapping[str, Tensor]) -> Match | None:
    """Recognised by ``model.1.sub.0.RDB1``. A ×3 has the keys of a ×2 and is read as one, unless ``scale`` is given."""
    dense, head = dims(state, "model.1.sub.0.RDB1.conv1.0.weight"), dims(state, "model.0.weight")
    tail = numbered_rules(state)
    if len(dense) != 4 or len(head) != 4 or tail is None:
        return None
    rules = [*tail.rules, (r"model\.0\.", "head.")]
    for block in range(3):
        for conv in range(5):
            target = rf"body.\1.dense.{block}.convs.{conv}."
            rules.append((rf"model\.1\.sub\.(\d+)\.RDB{block + 1}\.conv{conv + 1}\.0\.", target))
    rules.append((r"model\.1\.sub\.\d+\.", "neck."))
    blocks = count(state, r"model\.1\.sub\.\d+\.RDB1\.conv1\.0\.weight")
    return _matched(rename(state, rules), head, tail.last, dense[0], blocks, tail.enlarges, tail.upsampler)


def _matched(
    state: Mapping[str, Tensor],
    head: tuple[int, ...],
    tail: tuple[int, ...],
    growth: int,
    blocks: int,
    enlarges: int,
    upsampler: str = "nearest",
) -> Match:
    """The options; a head with 4 or 16 times the channels of the tail has a folded input."""
    colours = tail[0]
    folds = math.isqrt(head[1] // colours) if colours else 1
    unshuffle = folds if folds in (2, 4) and head[1] == colours * folds**2 and enlarges % folds == 0 else 1
    options = {
        "scale": enlarges // unshuffle,
        "channels": head[0],
        "growth": growth,
        "blocks": blocks,
        "in_channels": colours,
        "unshuffle": unshuffle,
        "upsampler": upsampler,
    }
    return Match("esrgan", options, state)
