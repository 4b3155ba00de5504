"""The conditional convolutional generator of HayatoHongo/MNIST-Conditional-WGAN-gp."""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import pairwise

from torch import Tensor

from gankit.checkpoints.layouts.base import Match, dims, rename
from gankit.checkpoints.layouts.stacks import numbers


def match(state: Mapping[str, Tensor]) -> Match | None:
    """Recognised by ``label_emb``, ``l1.0`` and ``conv_blocks``.

    No key records that the class comes after the latent, nor ReLU, tanh, nearest-neighbour enlargement, and an epsilon
    of 0.8 in every BatchNorm except the first, whose epsilon is 1e-5.
    """
    label, dense = dims(state, "label_emb.weight"), dims(state, "l1.0.weight")
    layers = numbers(state, "conv_blocks.")
    convolutions = [n for n in layers if len(dims(state, f"conv_blocks.{n}.weight")) == 4]
    if len(label) != 2 or len(dense) != 2 or not convolutions or len(dims(state, "conv_blocks.0.weight")) != 1:
        return None
    shapes = [dims(state, f"conv_blocks.{n}.weight") for n in convolutions]
    latent, first = dense[1] - label[1], math.isqrt(dense[0] // shapes[0][1])
    if latent < 1 or first * first * shapes[0][1] != dense[0] or any(a[0] != b[1] for a, b in pairwise(shapes)):
        return None
    widths = [shape[1] for shape in shapes]
    side = first * 2 ** (len(widths) - 1)
    options = {
        "latent": latent,
        "classes": label[0],
        "embedding": label[1],
        "body": "convolutional",
        "widths": widths,
        "size": [side, side],
        "channels": shapes[-1][0],
        "norm": True,
        "eps": 0.8,
        "activation": "relu",
        "output": "tanh",
        "class_first": False,
    }
    rules = [(r"label_emb\.", "embedding."), (r"l1\.0\.", "body.start."), (r"conv_blocks\.0\.", "body.norm.")]
    for index, number in enumerate(convolutions[:-1]):
        rules.append((rf"conv_blocks\.{number}\.", f"body.stages.{index}.conv."))
        rules.append((rf"conv_blocks\.{number + 1}\.", f"body.stages.{index}.norm."))
    rules.append((rf"conv_blocks\.{convolutions[-1]}\.", "body.last."))
    return Match("cgan", options, rename(state, rules))
