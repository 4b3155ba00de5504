"""How the spreading epilogue's kernel is cut and launched."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from gankit_kernels.on_cuda import spreads
from gankit_kernels.on_cuda.epilogue import launch as epilogue
from gankit_kernels.on_cuda.steps import Step
from gankit_kernels.specs import EpilogueSpec, SpreadSpec
from gankit_kernels.tensors import power_of_two, vector

_BLOCK_BYTES = 8192  # of the source for each program, as in the epilogue
_MOST_CHANNELS = 256  # channels of a program
MOST_TARGETS = 4  # of one launch


@dataclass(frozen=True)
class SpreadCall:
    """Everything about a launch that decides it.

    Attributes:
        shape: (N, C, H, W) of the source.
        dtype: Dtype of the source.
        bias: Whether there is a bias.
        prelu: Number of PReLU's slopes; 0 where there are none.
        residual: Whether there is a residual.
        activation: Name of the activation.
        before: Whether the residual is added before the activation.
        own: Whether the result is written to a tensor of its own, too.
        first: Number of channels of the targets before the written ones.
        widths: Channels of each target.
    """

    shape: tuple[int, ...]
    dtype: torch.dtype
    bias: bool
    prelu: int
    residual: bool
    activation: str
    before: bool
    own: bool
    first: int
    widths: tuple[int, ...]


def launch(
    x: Tensor,
    bias: Tensor | None,
    prelu: Tensor | None,
    residual: Tensor | None,
    result: Tensor | None,
    targets: list[Tensor],
    spec: SpreadSpec,
) -> None:
    """Run the kernel for every four targets, or the epilogue and copies where a tensor is not dense channels_last.

    Args:
        x: See :func:`gankit_kernels.spread.spread`, also for the next five.
        bias: (C,) or ``None``.
        prelu: (1,), (C,) or ``None``.
        residual: Of ``x``'s shape, or ``None``.
        result: Of ``x``'s shape, or ``None``.
        targets: Of ``x``'s shape, with other channels.
        spec: Everything about the operation that is no tensor.
    """
    if x.numel() == 0:
        return
    written = [item for item in (result, *targets) if item is not None]
    if not all(_dense(item) for item in (x, *written)):
        made = epilogue(x, bias, prelu, residual, EpilogueSpec(spec.activation, spec.slope, spec.scale, spec.before))
        for target in targets:
            target.narrow(1, spec.first, x.shape[1]).copy_(made)
        if result is not None:
            result.copy_(made)
        return
    if residual is not None and not _dense(residual):
        residual = residual.contiguous(memory_format=torch.channels_last)
    groups = [targets[start : start + MOST_TARGETS] for start in range(0, len(targets), MOST_TARGETS)] or [[]]
    for index, group in enumerate(groups):
        # The last launch writes the result, which may be the source of all of them.
        _run(x, bias, prelu, residual, result if index == len(groups) - 1 else None, group, spec)


def _run(
    x: Tensor,
    bias: Tensor | None,
    prelu: Tensor | None,
    residual: Tensor | None,
    result: Tensor | None,
    targets: list[Tensor],
    spec: SpreadSpec,
) -> None:
    call = SpreadCall(
        shape=tuple(x.shape),
        dtype=x.dtype,
        bias=bias is not None,
        prelu=0 if prelu is None else prelu.numel(),
        residual=residual is not None,
        activation=spec.activation,
        before=spec.before,
        own=result is not None,
        first=spec.first,
        widths=tuple(target.shape[1] for target in targets),
    )
    absent = [x] * (MOST_TARGETS - len(targets))  # stand-ins, which the kernel neither reads nor writes
    tensors = [
        x,
        x if bias is None else bias,
        x if prelu is None else prelu,
        x if residual is None else residual,
        x if result is None else result,
        *targets,
        *absent,
    ]
    with torch.cuda.device_of(x):
        plan(call)(tensors, (float(spec.slope), float(spec.scale)), x.device.index)


def _dense(x: Tensor) -> bool:
    return x.is_contiguous(memory_format=torch.channels_last)


@lru_cache(maxsize=1024)
def plan(call: SpreadCall) -> Step:
    """Plan a launch. The plan is cached because making it takes longer than the kernel runs."""
    samples, channels, height, width = call.shape
    itemsize, size = call.dtype.itemsize, samples * height * width
    most = min(_MOST_CHANNELS, power_of_two(channels))
    pixels = _BLOCK_BYTES // itemsize // most
    channel_blocks = -(-channels // most)
    vec = vector(itemsize, channels, call.first, *call.widths)
    widths = [*call.widths, *([0] * (MOST_TARGETS - len(call.widths)))]
    integers = {
        "channels_v": channels // vec,
        "size": size,
        "channel_blocks": channel_blocks,
        "first_v": call.first // vec,
        **{f"width{index}_v": wide // vec for index, wide in enumerate(widths)},
    }
    constants = {
        "VEC": vec,
        "PIXELS": pixels,
        "CHANNELS": most,
        "ACT": "leaky_relu" if call.prelu else call.activation,
        "BIAS": call.bias,
        "PRELU": call.prelu > 0,
        "SHARED": call.prelu == 1,
        "RESIDUAL": call.residual,
        "BEFORE": call.before,
        "OWN": call.own,
        "TARGETS": len(call.widths),
        "num_warps": 4,
    }
    programs = -(-size // pixels) * channel_blocks
    return Step(spreads.spread, programs, range(9), integers, constants, scalars=("slope", "scale"))
