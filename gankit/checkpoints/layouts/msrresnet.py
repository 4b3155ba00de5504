"""The SRResNets without BatchNorm: of BasicSR, mmagic, and KAIR (two of them)."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from gankit.checkpoints.layouts.base import Match, count, dims, rename
from gankit.checkpoints.layouts.numbered import numbered_rules

_BODY = r"(?:body|trunk_net|recon_trunk)\.(\d+)\.conv([12])\."


def match(state: Mapping[str, Tensor]) -> Match | None:
    """Recognised by ``conv_first``, a body of ``conv1`` and ``conv2``, and the sub-pixel convolutions' names.

    mmagic's networks have no activation after the PixelShuffle, and are recognised by their names.
    """
    head = dims(state, "conv_first.weight")
    blocks = count(state, r"(?:body|trunk_net|recon_trunk)\.\d+\.conv1\.weight")
    mmagic = "upsample1.upsample_conv.weight" in state
    first = "upsample1.upsample_conv" if mmagic else "upconv1"
    if len(head) != 4 or not blocks or len(dims(state, f"{first}.weight")) != 4:
        return None
    names = [first, first.replace("1", "2"), first.replace("1", "3")]
    shapes = [shape for name in names if len(shape := dims(state, f"{name}.weight")) == 4]
    steps = [math.isqrt(shape[0] // max(1, shape[1])) for shape in shapes]
    rules = [(_BODY, r"body.\1.conv\2."), (r"conv_first\.", "head.0."), (r"conv_last\.", "tail.")]
    rules += [(r"(?:conv_hr|HRconv)\.", "last.0.")]
    rules += [(rf"{name}\.", f"upsampler.{index}.0.") for index, name in enumerate(names)]
    options = {
        "scale": math.prod(steps),
        "channels": head[0],
        "blocks": blocks,
        "in_channels": head[1],
        "activated": not mmagic,
    }
    return Match("msrresnet", options, rename(state, rules))


def match_numbered(state: Mapping[str, Tensor]) -> Match | None:
    """KAIR's MSRResNet0, recognised by ``model.1.sub.0.res``. No key records the ``slope``: ReLU or LeakyReLU."""
    head, end = dims(state, "model.0.weight"), numbered_rules(state)
    if len(head) != 4 or "model.1.sub.0.res.0.weight" not in state or end is None:
        return None
    rules = [*end.rules, (r"model\.0\.", "head.")]
    rules += [
        (r"model\.1\.sub\.(\d+)\.res\.0\.", r"body.\1.conv1."),
        (r"model\.1\.sub\.(\d+)\.res\.2\.", r"body.\1.conv2."),
    ]
    rules += [(r"model\.1\.sub\.\d+\.(weight|bias)", r"neck.\1")]
    renamed = rename(state, rules)
    renamed.setdefault("tail.bias", torch.zeros(end.last[0]))  # KAIR's last convolution has none
    options = {
        "scale": end.enlarges,
        "channels": head[0],
        "blocks": count(state, r"model\.1\.sub\.\d+\.res\.0\.weight"),
        "in_channels": head[1],
        "upsampler": end.upsampler,
    }
    return Match("msrresnet0", options, renamed)
