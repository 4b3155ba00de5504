"""Real-ESRGAN's SRVGGNetCompact: our names are the published ones."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

from torch import Tensor

from gankit.checkpoints.layouts.base import Match, dims
from gankit.checkpoints.layouts.stacks import numbers

_NAME = re.compile(r"body\.\d+\.(?:weight|bias)")


def match(state: Mapping[str, Tensor]) -> Match | None:
    """Recognised by names that are all ``body.N``, with convolutions at even numbers; values are RGB in [0, 1].

    A file without slopes is of a network with ReLU or LeakyReLU, which no key records: it is ReLU unless the option
    ``activation`` says otherwise.
    """
    found = numbers(state, "body.")
    if not found or not all(_NAME.fullmatch(name) for name in state):
        return None
    first, last = dims(state, "body.0.weight"), dims(state, f"body.{found[-1]}.weight")
    if len(first) != 4 or len(last) != 4 or 0 in first or found[-1] < 2 or found[-1] % 2:
        return None
    options = {
        "scale": math.isqrt(last[0] // first[1]),
        "channels": first[0],
        "convs": found[-1] // 2 - 1,
        "in_channels": first[1],
        "activation": "prelu" if "body.1.weight" in state else "relu",
    }
    return Match("srvgg", options, state)
