"""Structures of networks that enlarge images."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from itertools import product
from typing import Any

import torch
from torch import Tensor

from gankit.checkpoints.layouts import eriklindernoren, srvgg
from gankit.checkpoints.layouts.base import Match, rename
from gankit.checkpoints.layouts.folding import biases_into_means, norm_into_conv, with_values
from gankit.checkpoints.structure import residual
from gankit.checkpoints.structure.base import (
    Finish,
    Item,
    Proposal,
    Shape,
    Shapes,
    built,
    depth,
    fits,
    kernel,
    kernels,
    norm,
)
from gankit.checkpoints.structure.probe import UPSCALER
from gankit.models.values import Input, Output

Way = tuple[dict[str, str], Finish]  # what a reading assumes, and how it finishes


def _ends(shapes: Shapes, size: int) -> tuple[int, int, list[Shape]] | None:
    """The width and the colours of a network with kernels of that size at its ends, and all of its kernels."""
    found = kernels(shapes)
    if len(found) < 3 or any(shape[2:] != (size, size) for shape in (found[0], found[-1])) or shapes[0] != found[0]:
        return None
    width, colours = found[0][0], found[-1][0]
    return (width, colours, found) if found[-1][1] == width else None


def srresnet(shapes: Shapes) -> Iterator[Proposal]:
    """A 9×9, blocks of 3×3, BatchNorm, activation, 3×3, BatchNorm; a 3×3; shuffles; a 9×9."""
    ends = _ends(shapes, 9)
    if ends is None or ends[2][0][1] != ends[1]:
        return
    width, colours, found = ends
    stages = found.count((4 * width, width, 3, 3))
    necks = ("norm", "bare", "prelu")
    for slopes, biased, neck, up_norm in product((1, width, 0), (False, True), necks, (False, True)):

        def make(
            blocks: int, slopes: int = slopes, biased: bool = biased, neck: str = neck, up_norm: bool = up_norm
        ) -> list[Item]:
            return _srresnet(width, colours, blocks, stages, slopes, biased, neck, up_norm)

        blocks = depth(shapes, make) if slopes or neck != "prelu" else None
        if blocks is None or (slopes == width == 1 and neck == "prelu"):
            continue
        recent = slopes > 0
        values: tuple[Input, Output] = ("unit", "linear")
        if up_norm:  # only eriklindernoren's has these
            values = ("imagenet", "tanh-imagenet") if recent else ("signed", "tanh")
            if colours != 3:
                values = ("signed", "tanh")
        elif biased:
            values = ("unit", "tanh")
        options = {
            "scale": 2**stages,
            "channels": width,
            "blocks": blocks,
            "in_channels": colours,
            "neck": "prelu" if neck == "prelu" else "norm",
            "slopes": "channel" if slopes == width > 1 else "shared",
        }
        more = {} if recent else {"activation": "ReLU"}
        epsilons = (0.8, 1e-5) if up_norm and recent else (1e-5,)
        ways = [_way(options, pair, eps, more) for eps in epsilons for pair in _values(values, colours)]
        (assumed, finish), *others = ways
        yield Proposal(f"SRResNet (SRGAN) ×{2**stages}", make(blocks), finish, assumed, others=others, measure=UPSCALER)
        return  # a width of 1 would be read twice


def _values(usual: tuple[Input, Output], colours: int) -> list[tuple[Input, Output]]:
    """The ranges of values that published networks have, the usual one of this structure first."""
    known: list[tuple[Input, Output]] = [("unit", "linear"), ("unit", "tanh"), ("signed", "tanh")]
    if colours == 3:
        known += [("imagenet", "tanh"), ("imagenet", "tanh-imagenet")]
    return [usual, *(pair for pair in known if pair != usual)]


def _way(
    options: Mapping[str, Any], values: tuple[Input, Output], eps: float, more: Mapping[str, str]
) -> tuple[dict[str, str], Finish]:
    """One reading of an SRResNet's tensors: what it assumes, and how it finishes."""
    full = {**options, "bn_eps": eps, "values_in": values[0], "output": values[1]}
    assumed = {"values_in": f"values_in={values[0]}", "output": f"output={values[1]}", "bn_eps": f"bn_eps={eps}"}
    return {**assumed, **more}, lambda state: _finish_srresnet(state, full, values)


def _srresnet(
    width: int, colours: int, blocks: int, stages: int, slopes: int, biased: bool, neck: str, up_norm: bool
) -> list[Item]:
    def act(name: str) -> list[Item]:
        return [(f"{name}.weight", (slopes,))] if slopes else []

    items = [*kernel("head.0", width, colours, 9), *act("head.1")]
    for block in range(blocks):
        items += [*kernel(f"body.{block}.conv1", width, width, 3, bias=biased), *norm(f"body.{block}.bn1", width)]
        items += act(f"body.{block}.act")
        items += [*kernel(f"body.{block}.conv2", width, width, 3, bias=biased), *norm(f"body.{block}.bn2", width)]
    if neck == "prelu":
        items += [*kernel("neck.0", width, width, 3), *act("neck.1")]
    else:  # "bare" has a bias where the blocks have none, or none where they have some
        items += [*kernel("neck.0", width, width, 3, bias=biased != (neck == "bare")), *norm("neck.1", width)]
    for stage in range(stages):
        items += kernel(f"upsampler.{stage}.conv", 4 * width, width, 3)
        items += norm(f"upsampler.{stage}.norm", 4 * width) if up_norm else []
        items += act(f"upsampler.{stage}.act")
    return [*items, *kernel("tail", colours, width, 9)]


def _finish_srresnet(state: dict[str, Tensor], options: dict[str, Any], values: tuple[Input, Output]) -> Match:
    stages, blocks = int(math.log2(options["scale"])), options["blocks"]
    new: dict[str, Tensor] = state
    for stage in range(stages):
        new = norm_into_conv(new, f"upsampler.{stage}.conv", f"upsampler.{stage}.norm")
    new = biases_into_means(new, r"(body\.\d+)\.conv([12])\.bias", r"\1.bn\2.running_mean")
    new = biases_into_means(new, r"neck\.0\.bias", "neck.1.running_mean")
    if "head.1.weight" not in new:  # ReLUs: PReLUs with slope 0
        names = ["head.1", *(f"body.{i}.act" for i in range(blocks)), *(f"upsampler.{i}.act" for i in range(stages))]
        new |= {f"{name}.weight": torch.zeros(1) for name in names}
    return Match("srgan", options, with_values(new, options["in_channels"], *values))


def fast_srgan(shapes: Shapes) -> Iterator[Proposal]:
    """The same with 3×3 kernels at the ends, no bias in the body, and any norm."""
    ends = _ends(shapes, 3)
    if ends is None or ends[2][0][1] != ends[1]:
        return
    width, colours, found = ends
    stages = found.count((4 * width, width, 3, 3))
    for kind, depthwise in product(("instance", "batch"), (False, True)):
        options = {"scale": 2**stages, "channels": width, "in_channels": colours, "norm": kind, "depthwise": depthwise}

        def make(blocks: int, options: dict[str, Any] = options) -> list[Item]:
            return built("fast_srgan", **options, blocks=blocks)

        blocks = depth(shapes, make)
        if blocks is None:
            continue
        options["blocks"] = blocks

        def finish(state: dict[str, Tensor], options: dict[str, Any] = options) -> Match:
            return Match("fast_srgan", options, with_values(state, options["in_channels"], "signed", "linear"))

        yield Proposal(
            f"Fast-SRGAN ×{2**stages}", built("fast_srgan", **options), finish, {"values": "values in [-1, 1] and tanh"}
        )


def rrdb(shapes: Shapes) -> Iterator[Proposal]:
    """A 3×3, dense blocks, a 3×3, enlargements, two 3×3."""
    ends = _ends(shapes, 3)
    if ends is None or len(ends[2]) < 19:
        return
    width, colours, found = ends
    growth = found[1][0]
    if found[1] != (growth, width, 3, 3) or found[2] != (growth, width + growth, 3, 3):
        return
    folds = math.isqrt(max(1, found[0][1] // colours))
    if found[0][1] != colours * folds**2:
        return
    for kind, stages in product(("nearest", "shuffle"), range(5)):
        triple = kind == "shuffle" and found[-3] == (9 * width, width, 3, 3)
        enlarges = 3 if triple and stages == 1 else 2**stages
        if enlarges % folds or (kind == "shuffle" and not stages):
            continue
        options: dict[str, Any] = {
            "scale": enlarges // folds,
            "channels": width,
            "growth": growth,
            "in_channels": colours,
            "unshuffle": folds,
            "upsampler": kind,
        }

        def make(blocks: int, options: dict[str, Any] = options) -> list[Item]:
            return built("esrgan", **options, blocks=blocks)

        if (len(found) - 4 - stages) % 15:
            continue
        blocks = depth(shapes, make)
        if blocks is None:
            continue
        items = make(blocks)
        options["blocks"] = blocks
        erik = kind == "shuffle" and folds == 1 and enlarges != 3

        def finish(state: dict[str, Tensor], options: dict[str, Any] = options) -> Match | None:
            return Match("esrgan", options, state)

        more: dict[str, str] = {}
        if enlarges == 2 and kind == "nearest" and folds == 1:
            more["scale"] = "scale=2, which has the tensors of scale=3"
        plain: Way = {"slope": "slope=0.2", "values_in": "values_in=unit", **more}, finish
        other: Way = {"slope": "slope=0.01", "values_in": f"values_in={'imagenet' if colours == 3 else 'unit'}"}, _erik
        (assumed, use), *others = [other, plain] if erik else [plain]
        yield Proposal(f"RRDBNet (ESRGAN) ×{options['scale']}", items, use, assumed, options["scale"], others, UPSCALER)


_ERIK = [
    (r"head\.", "conv1."),
    (r"neck\.", "conv2."),
    (r"last\.0\.", "conv3.0."),
    (r"tail\.", "conv3.2."),
    *((rf"upsampler\.{stage}\.0\.", f"upsampling.{3 * stage}.") for stage in range(4)),
    *((rf"body\.(\d+)\.dense\.(\d)\.convs\.{i}\.", rf"res_blocks.\1.dense_blocks.\2.b{i + 1}.0.") for i in range(5)),
]


def _erik(state: dict[str, Tensor]) -> Match | None:
    """The reading of the one widespread RRDBNet with sub-pixel convolutions."""
    return eriklindernoren.esrgan(rename(state, _ERIK))


def compact(shapes: Shapes) -> Iterator[Proposal]:
    """3×3 convolutions of one width, with slopes or none between them, and the shuffle's convolution at the end."""
    found = kernels(shapes)
    if len(found) < 2 or any(shape[2:] != (3, 3) for shape in found):
        return
    (width, colours), last = found[0][:2], found[-1][0]
    scale = math.isqrt(last // colours) if colours else 0
    if scale < 1 or last != colours * scale**2 or any(shape[:2] != (width, width) for shape in found[1:-1]):
        return
    convs = len(found) - 2
    for act in ("prelu", "relu"):
        options = {"scale": scale, "channels": width, "convs": convs, "in_channels": colours, "activation": act}
        items = built("srvgg", **options)
        if fits(shapes, items):
            plain = act == "relu"
            what = f"SRVGGNetCompact ×{scale}"
            assumed = {**({"activation": "activation=relu"} if plain else {}), "values": "RGB in [0, 1]"}
            others: list[Way] = []
            if plain and convs % 2 and convs > 1:  # also the shapes of residual blocks between two more convolutions
                others = [({"values": "RGB in [0, 1]"}, residual.direct)]
            yield Proposal(what, items, srvgg.match, assumed, scale, others, UPSCALER if others else None)
            if plain and scale == 1 and convs:
                yield Proposal("a plain stack (VDSR, DnCNN), which gankit does not have", items, lambda _: None)
            return


def msrresnet(shapes: Shapes) -> Iterator[Proposal]:
    """A 3×3, pairs of 3×3 without norms, perhaps one more, enlargements, two 3×3."""
    ends = _ends(shapes, 3)
    if ends is None or ends[2][0][1] != ends[1] or any(shape[2:] != (3, 3) for shape in ends[2]):
        return
    width, colours, _ = ends
    for scale in (2, 3, 4, 8):
        common = {"scale": scale, "channels": width, "in_channels": colours}
        kinds: list[tuple[str, dict[str, Any], dict[str, str]]] = [
            ("msrresnet", {}, {"activated": "activated=true"}),
            ("msrresnet0", {"upsampler": "nearest"}, {"slope": "slope=0 (ReLU)"}),
            ("msrresnet0", {"upsampler": "shuffle"}, {"slope": "slope=0 (ReLU)"}),
        ]
        for (model, more, assumed), tail_bias in product(kinds, (True, False)):
            options = {**common, **more}

            def make(
                blocks: int, model: str = model, options: dict[str, Any] = options, tail_bias: bool = tail_bias
            ) -> list[Item]:
                items = built(model, **options, blocks=blocks)
                return [item for item in items if tail_bias or item[0] != "tail.bias"]

            blocks = depth(shapes, make)
            if blocks is None:
                continue
            items = make(blocks)
            options["blocks"] = blocks

            def finish(state: dict[str, Tensor], model: str = model, options: dict[str, Any] = options) -> Match:
                return Match(model, options, {"tail.bias": torch.zeros(options["in_channels"]), **state})

            if scale == 3 and more.get("upsampler") == "nearest":
                continue  # the tensors of ×2, as with RRDBNet
            what = f"{'MSRResNet' if model == 'msrresnet' else 'MSRResNet0'} ×{scale} with {blocks} blocks"
            yield Proposal(what, items, finish, assumed, scale)
