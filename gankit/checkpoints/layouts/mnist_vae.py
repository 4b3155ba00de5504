"""The autoencoder of pytorch/examples, as csinva/gan-vae-pretrained-pytorch trained it on MNIST."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from gankit.checkpoints.layouts.base import Match, dims, rename
from gankit.checkpoints.layouts.stacks import image

_RULES = [
    (r"fc1\.", "encoder.0."),
    (r"fc21\.", "mean."),
    (r"fc22\.", "log_variance."),
    (r"fc3\.", "decoder.0."),
    (r"fc4\.", "decoder.2."),
]


def match(state: Mapping[str, Tensor]) -> Match | None:
    """Recognised by ``fc21`` and ``fc22``, mean and logarithm of the variance. No key records ReLU and sigmoid."""
    first, mean, last = (dims(state, f"{name}.weight") for name in ("fc1", "fc21", "fc4"))
    if len(first) != 2 or len(mean) != 2 or len(last) != 2 or "fc22.weight" not in state:
        return None
    shape = image(first[1])
    if shape is None or last[0] != first[1]:
        return None
    options = {
        "latent": mean[0],
        "hidden": [first[0]],
        "size": shape[0],
        "channels": shape[1],
        "activation": "relu",
        "output": "sigmoid",
    }
    return Match("vae", options, rename(state, _RULES))
