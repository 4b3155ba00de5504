"""gankit's own gan, cgan and vae without the header; dcgan has the names of ``pytorch_dcgan``.

No key records the activations, the epsilons and the order of class and latent, so that they are the models' defaults.
The header of gankit's own files does record them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from torch import Tensor

from gankit.checkpoints.layouts.base import Match, count, dims
from gankit.checkpoints.layouts.stacks import has_norm, image, widths


def gan(state: Mapping[str, Tensor]) -> Match | None:
    """Recognised by ``layers.0``, a matrix, and a last layer of as many values as an image has."""
    found = widths(state, "layers.")
    shape = image(found[-1]) if len(found) > 2 and found[-1] > found[0] else None
    if shape is None or any(not name.startswith("layers.") for name in state):
        return None
    options = {"latent": found[0], "hidden": found[1:-1], "size": shape[0], "channels": shape[1]}
    return Match("gan", {**options, "norm": has_norm(state, "layers.")}, state)


def cgan(state: Mapping[str, Tensor]) -> Match | None:
    """Recognised by ``embedding`` and ``body.layers.0`` or ``body.start``."""
    label, start = dims(state, "embedding.weight"), dims(state, "body.start.weight")
    if len(label) != 2:
        return None
    options: dict[str, object] = {"classes": label[0], "embedding": label[1], "norm": has_norm(state, "body.")}
    found = widths(state, "body.layers.")
    if len(found) > 2 and (shape := image(found[-1])):
        options |= {"body": "dense", "latent": found[0] - label[1], "widths": found[1:-1]}
        return Match("cgan", {**options, "size": shape[0], "channels": shape[1]}, state)
    last, stages = dims(state, "body.last.weight"), count(state, r"body\.stages\.\d+\.conv\.weight")
    if len(start) != 2 or len(last) != 4:
        return None
    convolutions = [dims(state, f"body.stages.{index}.conv.weight") for index in range(stages)]
    channels = [shape[1] for shape in (*convolutions, last) if len(shape) == 4]
    side = math.isqrt(start[0] // channels[0]) * 2**stages
    options |= {"body": "convolutional", "latent": start[1] - label[1], "widths": channels}
    return Match("cgan", {**options, "size": [side, side], "channels": last[0]}, state)


def vae(state: Mapping[str, Tensor]) -> Match | None:
    """Recognised by ``encoder.0`` and ``log_variance``."""
    found, mean = widths(state, "encoder."), dims(state, "mean.weight")
    shape = image(found[0]) if found else None
    if shape is None or len(mean) != 2 or "log_variance.weight" not in state:
        return None
    return Match("vae", {"latent": mean[0], "hidden": found[1:], "size": shape[0], "channels": shape[1]}, state)
