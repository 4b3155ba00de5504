"""The structure of EDSR, the plain residual upscaler."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from torch import Tensor

from gankit.checkpoints.layouts import edsr as layout
from gankit.checkpoints.layouts.base import Match, rename
from gankit.checkpoints.structure.base import Finish, Item, Proposal, Shapes, built, depth, kernel, kernels
from gankit.checkpoints.structure.probe import UPSCALER


def edsr(shapes: Shapes) -> Iterator[Proposal]:
    """A 3×3, pairs of 3×3 without norms, one more, sub-pixel convolutions, a 3×3; perhaps two 1×1 before all.

    The variant with gankit's own tail has the shapes of a plain stack: see :func:`direct`.
    """
    found = kernels(shapes)
    colours = found[-1][0] if found else 0
    shift = [*kernel("sub_mean", colours, colours, 1), *kernel("add_mean", colours, colours, 1)]
    shifted = list(shapes[:4]) == [shape for _, shape in shift]
    inner = found[2:] if shifted else found
    if len(inner) < 6 or any(shape[2:] != (3, 3) for shape in inner) or inner[0][1] != colours:
        return
    width = inner[0][0]
    before = shift if shifted else []
    for scale in (2, 3, 4, 8):
        options = {
            "scale": scale,
            "channels": width,
            "in_channels": colours,
            "tail": "edsr",
            "res_scale": layout.usual_factor(width),
        }

        def make(blocks: int, options: dict[str, Any] = options) -> list[Item]:
            items = built("edsr", **options, blocks=blocks)
            return [*before, *items] if items else []

        blocks = depth(shapes, make)
        if blocks is None:
            continue
        items = make(blocks)
        options["blocks"] = blocks
        what = f"EDSR ×{scale} with {blocks} blocks"
        factor = {"res_scale": f"res_scale={options['res_scale']:g}"}
        if shifted:
            yield Proposal(what, items, _between(options), factor, scale)
            return
        usual = layout.usual_mean(colours)
        means = [None] if usual is None else [usual, None]
        ways = [
            ({**factor, "mean": f"mean={'none' if mean is None else list(mean)}", "values": f"white={white:g}"}, use)
            for mean in means
            for white in (layout.WHITE, 1.0)
            for use in [_ranged(options, white, mean)]
        ]
        (assumed, finish), *others = ways
        yield Proposal(what, items, finish, assumed, scale, others, UPSCALER)
        return


def direct(state: dict[str, Tensor]) -> Match | None:
    """A plain stack of convolutions, under the names of an SRVGGNet, read as gankit's variant of EDSR.

    Args:
        state: ``body.0``, ``body.2``, … are convolutions; an odd number of them stands between the first and the last.
    """
    last = len(state) - 2  # two tensors for each number of a convolution, and one number less for an activation
    blocks = (last // 2 - 2) // 2
    rules = [(r"body\.0\.", "head."), (rf"body\.{last - 2}\.", "neck."), (rf"body\.{last}\.", "tail.")]
    for block in range(blocks):
        rules += [(rf"body\.{4 * block + 2 * half}\.", f"body.{block}.conv{half}.") for half in (1, 2)]
    found = layout.own(rename(state, rules))
    return found and replace(found, recognised=f"EDSR ×{found.options['scale']} with {blocks} blocks (gankit's)")


def _between(options: dict[str, Any]) -> Finish:
    return lambda state: layout.between_shifts(state, options)


def _ranged(options: dict[str, Any], white: float, mean: tuple[float, ...] | None) -> Finish:
    def finish(state: dict[str, Tensor]) -> Match:
        return layout.with_range(state, options, white, mean)

    return finish
