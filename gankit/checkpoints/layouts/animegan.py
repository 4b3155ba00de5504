"""The AnimeGANv2 generator of bryandlee/animegan2-pytorch, whose names gankit has, too."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from gankit.checkpoints.layouts.base import Match, count, dims


def match(state: Mapping[str, Tensor]) -> Match | None:
    """Recognised by ``block_a.0.1`` and ``out_layer.0``; values are RGB in [-1, 1] on both sides.

    No key records how the upsampling places its pixels; it is that of the torch.hub entry.
    """
    first, last = dims(state, "block_a.0.1.weight"), dims(state, "out_layer.0.weight")
    blocks = count(state, r"block_c\.\d+\.layers\.2\.weight")
    if len(first) != 4 or len(last) != 4 or not blocks:
        return None
    options = {"channels": first[0], "blocks": blocks, "in_channels": first[1], "out_channels": last[0]}
    return Match("animegan", options, state)
