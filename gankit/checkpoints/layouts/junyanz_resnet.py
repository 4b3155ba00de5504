"""The ResNet generators of junyanz/pytorch-CycleGAN-and-pix2pix, CUT and GAN Compression, whose names gankit has.

junyanz's blocks with dropout have the same names as GAN Compression's, whose dropout has rate 0, and give the same
images: dropout is for training only, and no image exceeds the limits that GAN Compression sets to its input.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

from gankit.checkpoints.layouts.base import Match, dims
from gankit.checkpoints.layouts.statistics import without_stale
from gankit.models.cyclegan import default_widths

_BLOCK = re.compile(r"model\.(\d+)\.conv_block\.(\d+)\.(conv\.\d\.)?(?:weight|bias)")


def match(state: Mapping[str, Tensor]) -> Match | None:
    """Recognised by a 7×7 ``model.1`` and by ``conv_block``; values are RGB in [-1, 1] on both sides."""
    first = dims(state, "model.1.weight")
    found = [(hit, value.ndim) for name, value in state.items() if (hit := _BLOCK.fullmatch(name))]
    if len(first) != 4 or first[2:] != (7, 7) or not found:
        return None
    blocks = len({hit[1] for hit, _ in found})
    separable = any(hit[3] for hit, _ in found)
    # without dropout the sixth layer is a norm
    dropout = any(hit[2] == "6" and rank == 4 for hit, rank in found)
    antialias = "model.7.filt" in state  # a layer more in every stage
    stage = 4 if antialias else 3
    trunk = 4 + 2 * stage
    ups = trunk + blocks
    antialias_up = f"model.{ups}.filt" in state
    up_stage = 4 if antialias_up else 3
    last = dims(state, f"model.{ups + 2 * up_stage + 1}.weight")
    part = ".conv.2" if separable else ""
    batch = len(dims(state, "model.2.weight")) == 1
    inner = [f"model.{index}.conv_block.1{part}.weight" for index in range(trunk, ups)]
    # widths: out of a Conv2d, and out of a ConvTranspose2d, whose weight has the input first
    widths = [first[0]]
    widths += [_width(state, name, 0) for name in ("model.4.weight", f"model.{4 + stage}.weight", *inner)]
    up = [f"model.{ups + index * up_stage + antialias_up}.weight" for index in (0, 1)]
    widths += [_width(state, name, 0 if antialias_up else 1) for name in up]
    options = {
        "channels": first[0],
        "blocks": blocks,
        "in_channels": first[1],
        "out_channels": last[0] if last else first[1],
        "norm": "batch" if batch else "instance",
        "norm_at_test": "instance" if batch and "model.2.running_mean" not in state else "eval",
        "dropout": (0.0 if separable else 0.5) if dropout else None,
        "antialias": antialias,
        "antialias_up": antialias_up,
        "separable": separable,
        # a missing name (0) is reported later, together with all others
        "widths": None if 0 in widths or widths == default_widths(first[0], blocks) else widths,
    }
    return Match("cyclegan", options, without_stale(state))


def _width(state: Mapping[str, Tensor], name: str, axis: int) -> int:
    """The output channels of a kernel; 0 if it is not there."""
    shape = dims(state, name)
    return shape[axis] if len(shape) == 4 else 0
