"""A generator that is one ``nn.Sequential`` of Linear and ReLU: csinva/gan-vae-pretrained-pytorch's for MNIST."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from gankit.checkpoints.layouts.base import Match
from gankit.checkpoints.layouts.stacks import has_norm, image, widths


def match(state: Mapping[str, Tensor]) -> Match | None:
    """Recognised by names that are numbers. No key records ReLU and tanh.

    The last layer returns more values than the first takes, and as many as a square image has, which is not so in a
    discriminator or a classifier.
    """
    if any(not name[:1].isdigit() for name in state) or has_norm(state, ""):
        return None
    found = widths(state, "")
    shape = image(found[-1]) if len(found) > 2 and found[-1] > found[0] else None
    if shape is None:
        return None
    options = {
        "latent": found[0],
        "hidden": found[1:-1],
        "size": shape[0],
        "channels": shape[1],
        "norm": False,
        "activation": "relu",
        "output": "tanh",
    }
    return Match("gan", options, {f"layers.{name}": value for name, value in state.items()})
