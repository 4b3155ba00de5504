"""Structures of networks that translate images."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from torch import Tensor

from gankit.checkpoints.layouts import animegan as animegan_layout
from gankit.checkpoints.layouts import junyanz_resnet, junyanz_unet
from gankit.checkpoints.layouts.base import Match
from gankit.checkpoints.structure.base import (
    Item,
    Proposal,
    Shapes,
    built,
    depth,
    depths,
    fits,
    kernels,
    normed,
    plausible,
)

_SIGNED = "RGB in [-1, 1]"


def resnet(shapes: Shapes) -> Iterator[Proposal]:
    """A 7×7, two 3×3 that double the width, blocks of two 3×3, two that halve the width, a 7×7."""
    found = kernels(shapes)
    if len(found) < 6 or shapes[0][2:] != (7, 7) or found[-1][2:] != (7, 7):
        return
    width, ins, outs = found[0][0], found[0][1], found[-1][0]
    options = {
        "channels": width,
        "in_channels": ins,
        "out_channels": outs,
        "norm": "batch",
        "antialias": (2 * width, 1, 3, 3) in found,  # the filters of CUT
        "antialias_up": (4 * width, 1, 4, 4) in found,
    }

    def batch(blocks: int) -> list[Item]:
        return built("cyclegan", **options, blocks=blocks)

    assumed = {"values": _SIGNED, "borders": "reflected borders", "activation": "ReLU"}
    for kind, blocks, items, edit in depths(shapes, batch):

        def finish(
            state: dict[str, Tensor], edit: Callable[[dict[str, Tensor]], dict[str, Tensor]] = edit
        ) -> Match | None:
            return junyanz_resnet.match(edit(state))

        what = f"ResNet (CycleGAN) with {blocks} blocks and {kind}"
        yield Proposal(what, items, finish, assumed, accepts=plausible(kind))


def unet(shapes: Shapes) -> Iterator[Proposal]:
    """4×4 kernels down to the narrowest map, and as many up again, each but the first joined by a skip."""
    found = kernels(shapes)
    if len(found) < 6 or len(found) % 2 or any(shape[2:] != (4, 4) for shape in found):
        return
    width, ins, outs = found[0][0], found[0][1], found[-1][1]
    options = {"channels": width, "in_channels": ins, "out_channels": outs, "norm": "batch", "downs": len(found) // 2}
    options["norm_at_test"] = "eval"  # which has running statistics
    batch = built("pix2pix", **options)
    assumed = {"values": _SIGNED, "activation": "LeakyReLU 0.2 down and ReLU up"}
    for kind, items, edit in normed(batch):
        if fits(shapes, items):

            def finish(
                state: dict[str, Tensor], edit: Callable[[dict[str, Tensor]], dict[str, Tensor]] = edit
            ) -> Match | None:
                return junyanz_unet.match(edit(state))

            yield Proposal(f"U-Net (pix2pix) with {kind}", items, finish, assumed, accepts=plausible(kind))


def animegan(shapes: Shapes) -> Iterator[Proposal]:
    """AnimeGANv2: a 7×7, inverted residual blocks with GroupNorm, a 1×1."""
    found = kernels(shapes)
    if len(found) < 12 or shapes[0][2:] != (7, 7) or found[-1][2:] != (1, 1):
        return
    options = {"channels": found[0][0], "in_channels": found[0][1], "out_channels": found[-1][0]}

    def make(blocks: int) -> list[Item]:
        return built("animegan", **options, blocks=blocks)

    blocks = depth(shapes, make)
    if blocks is not None:
        assumed = {"align_corners": "align_corners=true", "values": _SIGNED}
        yield Proposal("AnimeGANv2", make(blocks), animegan_layout.match, assumed)


def cartoongan(shapes: Shapes) -> Iterator[Proposal]:
    """CartoonGAN: a flat 7×7, pairs of 3×3 down, blocks with affine InstanceNorm, pairs up, a 7×7."""
    found = kernels(shapes)
    if len(found) < 12 or shapes[0][2:] != (7, 7) or found[-1][2:] != (7, 7) or found[0][1] != found[-1][0]:
        return
    options = {"channels": found[0][0], "in_channels": found[0][1]}

    def make(blocks: int) -> list[Item]:
        return built("cartoongan", **options, blocks=blocks)

    blocks = depth(shapes, make)
    if blocks is not None:

        def finish(state: dict[str, Tensor]) -> Match:
            return Match("cartoongan", {**options, "blocks": blocks}, state)

        yield Proposal("CartoonGAN", make(blocks), finish, {"channel_order": "channel_order=bgr", "values": _SIGNED})
