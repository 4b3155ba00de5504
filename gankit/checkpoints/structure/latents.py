"""Structures of networks that make images of latents."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise, product
from typing import Any

from torch import Tensor

from gankit.checkpoints.layouts import pytorch_dcgan
from gankit.checkpoints.layouts.base import Match
from gankit.checkpoints.layouts.stacks import image
from gankit.checkpoints.structure.base import Item, Proposal, Shape, Shapes, built, fits, norm
from gankit.checkpoints.structure.probe import NORMS


def _matched(model: str, options: dict[str, Any]) -> Any:
    def finish(state: dict[str, Tensor]) -> Match:
        return Match(model, options, state)

    return finish


def _proposal(
    what: str, items: Sequence[Item], model: str, options: Mapping[str, Any], usual: Mapping[str, Any]
) -> Proposal:
    """A network whose activation, epsilon and order of class and latent the variances in its BatchNorms may show."""
    ways = [dict(usual)]
    if options["norm"]:
        orders = [{"class_first": first} for first in (False, True)] if "class_first" in usual else [{}]
        ways += [
            {**usual, "eps": eps, "activation": act, **order}
            for eps, act, order in product((1e-5, 0.8), ("relu", "leaky_relu"), orders)
        ]
    (assumed, finish), *others = (
        ({key: f"{key}={str(value).lower()}" for key, value in way.items()}, _matched(model, {**options, **way}))
        for way in ways
    )
    return Proposal(what, items, finish, assumed, others=others, measure=NORMS if options["norm"] else None)


def dcgan(shapes: Shapes) -> Iterator[Proposal]:
    """Transposed convolutions, each with BatchNorm, the last without."""
    found = [shape for shape in shapes if len(shape) > 1]
    if len(found) < 2 or any(len(shape) != 4 for shape in found) or shapes[0] != found[0]:
        return
    for biased in (False, True):
        items: list[Item] = []
        for index, shape in enumerate(found):
            items += [(f"main.{3 * index}.weight", shape)]
            items += [(f"main.{3 * index}.bias", (shape[1],))] if biased else []
            items += norm(f"main.{3 * index + 1}", shape[1]) if index < len(found) - 1 else []
        if fits(shapes, items) and found[-1][1] in (1, 3):
            kernels = ", ".join(f"{shape[2]}×{shape[3]}" for shape in found)
            assumed = {"kernels": f"the usual strides of the kernels {kernels}", "values": "ReLU and tanh"}
            yield Proposal("DCGAN", items, pytorch_dcgan.match, assumed)


def dense(shapes: Shapes) -> Iterator[Proposal]:
    """Dense layers from a latent to all pixels: a GAN's generator, or a VAE's decoder."""
    widths = _chain([shape for shape in shapes if len(shape) > 1])
    shape = image(widths[-1]) if len(widths) > 2 and widths[-1] > widths[0] else None
    if shape is None:
        return
    for with_norm in (False, True):
        options: dict[str, Any] = {
            "latent": widths[0],
            "hidden": widths[1:-1],
            "size": shape[0],
            "channels": shape[1],
            "norm": with_norm,
        }
        items = built("gan", **options)
        if not fits(shapes, items):
            continue
        usual: dict[str, Any]
        if with_norm:
            usual = {"eps": 0.8, "activation": "leaky_relu", "output": "tanh"}
        else:  # with one hidden layer it is a VAE's decoder, as in pytorch/examples
            usual = {"activation": "relu", "output": "sigmoid" if len(widths) == 3 else "tanh"}
        what = "dense layers (the decoder of a VAE)" if len(widths) == 3 else "dense layers (GAN)"
        yield _proposal(what, items, "gan", options, usual)
        return


def vae(shapes: Shapes) -> Iterator[Proposal]:
    """Dense layers from all pixels to two equal ones, mean and variance, and from a latent to all pixels."""
    found = [shape for shape in shapes if len(shape) > 1]
    middle = [i for i, (a, b) in enumerate(pairwise(found)) if a == b and i]
    if len(found) < 5 or any(len(shape) != 2 for shape in found) or not middle:
        return
    encoder = _chain(found[: middle[0]])
    shape = image(encoder[0]) if encoder else None
    if shape is None:
        return
    options = {
        "latent": found[middle[0]][0],
        "hidden": encoder[1:],
        "size": shape[0],
        "channels": shape[1],
        "activation": "relu",
        "output": "sigmoid",
    }
    items = built("vae", **options)
    if fits(shapes, items):
        assumed = {key: f"{key}={options[key]}" for key in ("activation", "output")}
        yield Proposal("VAE", items, _matched("vae", options), assumed)


def cgan(shapes: Shapes) -> Iterator[Proposal]:
    """A vector for each class, and dense layers or a convolutional stack from it and the latent to the image."""
    found = [shape for shape in shapes if len(shape) > 1]
    if len(found) < 3 or len(shapes[0]) != 2 or len(found[1]) != 2 or found[1][1] <= shapes[0][1]:
        return
    (classes, embedding), (start, joined) = shapes[0], found[1]
    common = {"classes": classes, "embedding": embedding, "latent": joined - embedding}
    widths = _chain(found[1:])
    shape = image(widths[-1]) if len(widths) > 2 else None
    readings: list[tuple[dict[str, Any], dict[str, Any]]] = []
    if shape is not None:
        body = {"body": "dense", "widths": widths[1:-1], "size": shape[0], "channels": shape[1]}
        usual = {"activation": "leaky_relu", "class_first": True, "output": "tanh"}
        readings = [({**body, "norm": True}, {"eps": 0.8, **usual}), ({**body, "norm": False}, usual)]
    elif all(len(item) == 4 for item in found[2:]):
        channels = [item[1] for item in found[2:]]
        side = math.isqrt(start // max(1, channels[0])) * 2 ** (len(channels) - 1)
        body = {"body": "convolutional", "widths": channels, "size": [side, side], "channels": found[-1][0]}
        usual = {"activation": "relu", "class_first": False, "output": "tanh"}
        readings = [({**body, "norm": True}, {"eps": 0.8, **usual}), ({**body, "norm": False}, usual)]
    for options, usual in readings:
        items = built("cgan", **common, **options)
        if fits(shapes, items):
            yield _proposal("conditional GAN", items, "cgan", {**common, **options}, usual)
            return


def _chain(found: list[Shape]) -> list[int]:
    """The widths of dense layers of which each fits the one before it; empty where one does not."""
    if not found or any(len(shape) != 2 for shape in found) or any(a[0] != b[1] for a, b in pairwise(found)):
        return []
    return [found[0][1], *(shape[0] for shape in found)]
