"""The U-Net of junyanz/pytorch-CycleGAN-and-pix2pix, whose names gankit has. Dropout leaves no trace in the names."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from gankit.checkpoints.layouts.base import Match, dims
from gankit.checkpoints.layouts.statistics import without_stale

_OUTER, _FIRST, _NEXT = "model.model", "model.model.1.model.", ".3.model"


def match(state: Mapping[str, Tensor]) -> Match | None:
    """Recognised by the 4×4 ``model.model.0`` and the level inside it; values are RGB in [-1, 1] on both sides.

    A BatchNorm uses the image's own statistics, as in the paper; with ``norm="eval"`` it uses the running ones.
    """
    first = dims(state, f"{_OUTER}.0.weight")
    depth = max((name.count(_NEXT) for name in state if name.startswith(_FIRST)), default=None)
    if len(first) != 4 or first[2:] != (4, 4) or depth is None:
        return None
    last = dims(state, f"{_OUTER}.3.weight")
    batch = any(value.ndim == 1 and name.endswith(".weight") for name, value in state.items())
    options = {
        "channels": first[0],
        "downs": 2 + depth,
        "in_channels": first[1],
        "out_channels": last[1] if len(last) == 4 else first[1],
        "norm": "batch" if batch else "instance",
        "norm_at_test": "instance",
    }
    return Match("pix2pix", options, without_stale(state))
