"""EDSR under the names of its first PyTorch port (sanghyun-son), of BasicSR, of mmagic, and gankit's own.

The published networks take and return values from 0 to 255, less the mean of DIV2K's colours. Between the two shifts
stand convolutions and ReLUs only, for which g(255·x) / 255 is the same network with biases of a 255th: that is how
gankit, whose images are in [0, 1], reads them. The shifts themselves stay, because a convolution pads with zeros behind
the first of them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from gankit.checkpoints.layouts.base import Match, count, dims, rename
from gankit.checkpoints.layouts.folding import with_mean
from gankit.models.edsr import DIV2K_MEAN

WHITE = 255.0  # in the published networks
_WIDE = 256  # channels of the paper's large network, whose residuals every project scales by 0.1
_DIGITS = 6  # of a mean; float32 has no more


def sanghyun_son(state: Mapping[str, Tensor]) -> Match | None:
    """Recognised by ``head.0``, ``body.0.body.0`` and ``tail.1``.

    ``sub_mean`` and ``add_mean`` are 1×1 convolutions with the mean in their biases, from which the range of values
    follows too: 0 to 255, or 0 to 1 where the project's option ``--rgb_range 1`` was given. Any other numbers in them
    are read as well, as part of the convolutions beside them.
    """
    head, blocks = dims(state, "head.0.weight"), count(state, r"body\.\d+\.body\.0\.weight")
    if len(head) != 4 or not blocks or len(dims(state, "tail.1.weight")) != 4 or dims(state, "body.0.body.1.weight"):
        return None
    ups = [name for name in (f"tail.0.{2 * step}" for step in range(4)) if f"{name}.weight" in state]
    rules = [
        (r"head\.0\.", "head."),
        (r"body\.(\d+)\.body\.0\.", r"body.\1.conv1."),
        (r"body\.(\d+)\.body\.2\.", r"body.\1.conv2."),
        (rf"body\.{blocks}\.", "neck."),
        *((rf"{name}\.", f"upsampler.{index}.0.") for index, name in enumerate(ups)),
        (r"tail\.1\.", "tail."),
    ]
    options = _options(state, head, blocks, ups)
    return between_shifts(rename(state, rules), options)


def basicsr(state: Mapping[str, Tensor]) -> Match | None:
    """Recognised by ``conv_first``, ``body.0.conv1``, ``conv_after_body`` and ``upsample.0``; values are 0 to 255."""
    return _arch(state, [f"upsample.{2 * step}" for step in range(4)], WHITE)


def mmagic(state: Mapping[str, Tensor]) -> Match | None:
    """Recognised by BasicSR's names and ``upsample.0.upsample_conv``; values are 0 to 1."""
    return _arch(state, [f"upsample.{step}.upsample_conv" for step in range(4)], 1.0)


def own(state: Mapping[str, Tensor]) -> Match | None:
    """Files of gankit without the header: ``head``, ``body.0.conv1``, ``neck`` and ``tail``, and no ``last``."""
    head, tail = dims(state, "head.weight"), dims(state, "tail.weight")
    blocks = count(state, r"body\.\d+\.conv1\.weight")
    others = "neck.weight" not in state or "last.0.weight" in state
    if len(head) != 4 or len(tail) != 4 or 0 in head or not blocks or others:
        return None
    ups = [name for name in (f"upsampler.{step}.0" for step in range(4)) if f"{name}.weight" in state]
    options = _options(state, head, blocks, ups)
    del options["res_scale"]  # gankit's files without a header are of its own networks
    if not ups and "exit.norm.running_mean" not in state:
        options |= {"tail": "direct", "scale": math.isqrt(tail[0] // head[1])}
    if "entrance.norm.running_mean" in state:
        options["mean"] = _rounded(state["entrance.norm.running_mean"])
    return Match("edsr", options, state)


def with_range(
    state: Mapping[str, Tensor], options: Mapping[str, Any], white: float, mean: Sequence[float] | None
) -> Match:
    """The match of weights that were trained on values from 0 to ``white``, less a mean.

    Args:
        state: under gankit's names, without shifts.
        options: of the model, without the mean.
        white: the value of white.
        mean: of every colour channel, in [0, 1]; ``None`` for no shift.
    """
    scaled = {name: _over(value, white) if name.endswith(".bias") else value for name, value in state.items()}
    assumed = f"res_scale={options['res_scale']:g}, white={white:g}"
    if mean is not None:
        options, scaled = {**options, "mean": list(mean)}, with_mean(scaled, mean, options["tail"])
    return Match("edsr", options, scaled, assumed=assumed)


def between_shifts(state: Mapping[str, Tensor], options: Mapping[str, Any]) -> Match | None:
    """The match of weights with ``sub_mean`` and ``add_mean``; usual ones where a file lacks them.

    Args:
        state: under gankit's names, but for the shifts.
        options: of the model, without the mean.

    Returns:
        The match; ``None`` where the first shift cannot be undone, so that there is no mean.
    """
    names = [f"{shift}_mean.{part}" for shift in ("sub", "add") for part in ("weight", "bias")]
    inner = {name: value for name, value in state.items() if name not in names}
    colours, head, tail = options["in_channels"], inner.get("head.weight"), inner.get("tail.weight")
    shapes = [dims(state, name) for name in names]
    if not any(shapes):
        return with_range(inner, options, WHITE, usual_mean(colours))
    fits = shapes == [(colours, colours, 1, 1), (colours,)] * 2
    if not fits or head is None or tail is None or tail.shape[0] != colours:
        return Match("edsr", options, state)  # what does not fit is reported later
    mix_in, shift_in, mix_out, shift_out = (state[name].double().squeeze() for name in names)
    mix_in, mix_out = mix_in.reshape(colours, colours), mix_out.reshape(colours, colours)
    if not all(bool(torch.isfinite(state[name]).all()) for name in names) or bool(torch.linalg.det(mix_in) == 0):
        return None
    # mix·x + shift = mix·(x - mean), and the convolution behind it takes the mixing
    mean = -torch.linalg.solve(mix_in, shift_in.reshape(colours))
    white = WHITE if bool(mean.abs().max() > 1) else 1.0
    means = _rounded(mean / white)
    inner["head.weight"] = torch.einsum("ocij,cd->odij", head.double(), mix_in).float()
    inner["tail.weight"] = torch.einsum("po,ocij->pcij", mix_out, tail.double()).float()
    rest = shift_out - torch.tensor(means, dtype=torch.float64) * white  # what the network's own shift does not add
    if dims(inner, "tail.bias") == (colours,):
        inner["tail.bias"] = (mix_out @ inner["tail.bias"].double() + rest).float()
    return with_range(inner, options, white, means)


def usual_mean(colours: int) -> tuple[float, ...] | None:
    """DIV2K's; none of images without colours."""
    return DIV2K_MEAN if colours == len(DIV2K_MEAN) else None


def usual_factor(channels: int) -> float:
    """The factor of residuals, which no key records."""
    return 0.1 if channels == _WIDE else 1.0


def _arch(state: Mapping[str, Tensor], upsampler: Sequence[str], white: float) -> Match | None:
    """BasicSR's names, with any of the convolutions that enlarge."""
    head, blocks = dims(state, "conv_first.weight"), count(state, r"body\.\d+\.conv1\.weight")
    ups = [name for name in upsampler if f"{name}.weight" in state]
    if len(head) != 4 or not blocks or not ups or dims(state, "conv_after_body.weight") != (head[0], head[0], 3, 3):
        return None
    rules = [
        (r"conv_first\.", "head."),
        (r"conv_after_body\.", "neck."),
        *((rf"{name}\.", f"upsampler.{index}.0.") for index, name in enumerate(ups)),
        (r"conv_last\.", "tail."),
    ]
    return with_range(rename(state, rules), _options(state, head, blocks, ups), white, usual_mean(head[1]))


def _options(state: Mapping[str, Tensor], head: tuple[int, ...], blocks: int, ups: Sequence[str]) -> dict[str, Any]:
    """The options of the paper's network, without the mean."""
    shapes = [dims(state, f"{name}.weight") for name in ups]
    return {
        "scale": math.prod(math.isqrt(shape[0] // max(1, shape[1])) for shape in shapes if len(shape) == 4),
        "channels": head[0],
        "blocks": blocks,
        "in_channels": head[1],
        "tail": "edsr",
        "res_scale": usual_factor(head[0]),
    }


def _over(value: Tensor, white: float) -> Tensor:
    return value if white == 1 or not value.is_floating_point() else (value.double() / white).float()


def _rounded(mean: Tensor) -> list[float]:
    return [round(float(value), _DIGITS) for value in mean]
