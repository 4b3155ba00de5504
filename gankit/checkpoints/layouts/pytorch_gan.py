"""The dense generators of eriklindernoren/PyTorch-GAN: gan, wgan, wgan_gp, … and cgan."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from gankit.checkpoints.layouts.base import Match, dims, rename
from gankit.checkpoints.layouts.stacks import has_norm, image, widths


def match(state: Mapping[str, Tensor]) -> Match | None:
    """Recognised by ``model.0``, a matrix, and ``label_emb`` for the conditional one.

    No key records LeakyReLU 0.2, tanh, an epsilon of 0.8, and that the class comes before the latent. The images have
    more values than the latent, whereas a discriminator returns one logit.
    """
    found, label = widths(state, "model."), dims(state, "label_emb.weight")
    shape = image(found[-1]) if len(found) > 2 and found[-1] > found[0] else None
    if shape is None or (label and (len(label) != 2 or found[0] <= label[1])):
        return None
    options: dict[str, object] = {
        "size": shape[0],
        "channels": shape[1],
        "norm": has_norm(state, "model."),
        "eps": 0.8,
        "activation": "leaky_relu",
        "output": "tanh",
    }
    if not label:
        options |= {"latent": found[0], "hidden": found[1:-1]}
        return Match("gan", options, rename(state, [(r"model\.", "layers.")]))
    options |= {
        "latent": found[0] - label[1],
        "classes": label[0],
        "embedding": label[1],
        "body": "dense",
        "widths": found[1:-1],
        "class_first": True,
    }
    return Match("cgan", options, rename(state, [(r"model\.", "body.layers."), (r"label_emb\.", "embedding.")]))
