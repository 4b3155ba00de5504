"""How InstanceNorm's kernels are launched."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from gankit_kernels.instance_norm import empty_result
from gankit_kernels.on_cuda import channels_last as pixels
from gankit_kernels.on_cuda import planes
from gankit_kernels.on_cuda.norm_config import MERGED_BY_ALL, InstanceNormConfig
from gankit_kernels.on_cuda.steps import Step
from gankit_kernels.tensors import channels_last, dense, power_of_two, processors, vector

__all__ = ["InstanceNormConfig", "launch"]

# The tensors of a call, by which steps name their arguments.
_X, _WEIGHT, _BIAS, _RESIDUAL, _Y, _MEANS, _SQUARES, _MEAN, _SQUARE = range(9)
_OUT = (_WEIGHT, _BIAS, _RESIDUAL, _Y)


def launch(
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    residual: Tensor | None,
    activation: str,
    slope: float,
    pad: int,
    eps: float,
    whole: bool,
    config: InstanceNormConfig | None = None,
) -> Tensor:
    """Run the kernels. The arguments are those of ``gankit_kernels.instance_norm.composite``, and a configuration."""
    y = empty_result(x, pad)
    if x.numel() == 0:
        return y
    x, last = dense(x), channels_last(x)
    if residual is not None and last and residual.stride(1) != 1:
        residual = residual.contiguous(memory_format=torch.channels_last)
    steps, many, few = _plan(
        x.shape,
        x.stride(),
        x.itemsize,
        last,
        weight is not None,
        bias is not None,
        None if residual is None else residual.stride(),
        activation,
        pad,
        whole,
        processors(x.device),
        config,
    )
    # for what is absent y stands in, and is not read
    tensors: tuple[Tensor, ...] = (
        x,
        y if weight is None else weight,
        y if bias is None else bias,
        y if residual is None else residual,
        y,
    )
    with torch.cuda.device_of(x):
        for count in (many, few):
            if count:
                tensors += torch.empty((2, count), dtype=torch.float32, device=x.device).unbind(0)
        for step in steps:
            step(tensors, (eps, slope), x.device.index)
    return y


@dataclass(frozen=True)
class _Call:
    """What a plan depends on."""

    shape: tuple[int, ...]
    strides: tuple[int, ...]
    itemsize: int
    last: bool
    weight: bool
    bias: bool
    residual: tuple[int, ...] | None
    activation: str
    pad: int
    whole: bool

    @property
    def flags(self) -> dict[str, Any]:
        """The constants of every kernel that writes results."""
        residual = self.residual is not None
        return {"ACT": self.activation, "WEIGHT": self.weight, "BIAS": self.bias, "RESIDUAL": residual}

    @property
    def indexed(self) -> bool:
        """Whether rows and columns must be computed: a border, or a residual that does not lie as ``x`` does."""
        if self.pad or self.residual is None:
            return bool(self.pad)
        sides = zip(self.shape[1:], self.strides[1:], self.residual[1:], strict=True)
        return any(size > 1 and one != other for size, one, other in sides)

    def suits(self, config: InstanceNormConfig) -> bool:
        """Whether a configuration's kernel can do this call."""
        if config.kernel == "alone":
            return not self.whole and not self.last
        return config.kernel == "split" or not (self.whole or self.indexed)

    def check(self, config: InstanceNormConfig) -> None:
        """Require a configuration to reach every value.

        Raises:
            ValueError: it is cut for another shape.
        """
        _, channels, height, width = self.shape
        size, rows = height * width, height + 2 * self.pad
        reached = config.parts * config.chunk >= size * (channels if self.whole and not self.last else 1)
        written = config.out_parts * config.out_blocks
        if self.last or not self.indexed:
            whole = written * config.out_block >= rows * (width + 2 * self.pad)
        else:
            whole = written >= rows
        fits = {"resident": config.block >= size, "alone": True, "split": reached and whole}
        if not fits[config.kernel]:
            raise ValueError(f"config is cut for another shape than {self.shape}")


_Plan = tuple[tuple[Step, ...], int, int]  # launches; places for the statistics of parts, and of planes


@lru_cache(maxsize=1024)
def _plan(*facts: Any) -> _Plan:
    """Everything about a call that its shapes decide: working it out takes longer than the kernels run.

    Args:
        facts: those of ``_Call``, multiprocessors, and a configuration or ``None``.
    """
    call, sms, config = _Call(*facts[:-2]), facts[-2], facts[-1]
    if config is not None and not call.suits(config):
        config = None
    if config is not None:
        call.check(config)
    return _plan_pixels(call, sms, config) if call.last else _plan_planes(call, sms, config)


def _plan_planes(call: _Call, sms: int, config: InstanceNormConfig | None) -> _Plan:
    samples, channels, height, width = call.shape
    size, count, indexed = height * width, samples * channels, call.indexed
    residual = call.residual or (0, 0, 0, 0)
    if config is None:
        config = InstanceNormConfig.of_planes(call.shape, call.pad, sms, indexed=indexed, whole=call.whole)
    vec = vector(call.itemsize, size, call.strides[0], 0 if indexed else residual[0])
    shared = {"VEC": vec, "BLOCK": config.block, "num_warps": config.warps}
    batch, flags = call.strides[0] // vec, call.flags
    if config.kernel == "resident":
        numbers = (count, channels, size // vec, batch, residual[0] // vec)
        programs, constants = -(-count // config.rows), {"ROWS": config.rows, **flags, **shared}
        return (Step(planes.resident, programs, (_X, *_OUT), numbers, constants),), 0, 0
    geometry = (
        channels, height, width, call.pad, size // vec, batch, residual[0] if indexed else residual[0] // vec,
        *residual[1:],
    )  # fmt: skip
    if config.kernel == "alone":
        constants = {"INDEXED": indexed, **flags, **shared, "maxnreg": 64}
        return (Step(planes.alone, count, (_X, *_OUT), geometry, constants),), 0, 0
    counted, length = (samples, size * channels) if call.whole else (count, size)
    return (
        _statistics(counted, 1 if call.whole else channels, length, batch, config, vec),
        Step(
            planes.apply,
            count * config.out_parts,
            (_X, _MEANS, _SQUARES, *_OUT),
            (*geometry, config.parts, config.chunk, config.out_parts, config.out_blocks),
            {"PARTS": power_of_two(config.parts), "INDEXED": indexed, "WHOLE": call.whole}
            | flags | shared | {"BLOCK": config.out_block},
        ),
    ), counted * config.parts, 0  # fmt: skip


def _statistics(counted: int, channels: int, length: int, batch: int, config: InstanceNormConfig, vec: int) -> Step:
    """``planes.statistics`` of ``counted`` planes of ``length`` values."""
    return Step(
        planes.statistics,
        counted * config.parts,
        (_X, _MEANS, _SQUARES),
        (channels, length // vec, batch, config.parts, config.chunk // config.block),
        {"VEC": vec, "BLOCK": config.block, "num_warps": config.warps},
        scalars=False,
    )


def _plan_pixels(call: _Call, sms: int, config: InstanceNormConfig | None) -> _Plan:
    samples, channels, height, width = call.shape
    size, indexed = height * width, call.indexed
    residual = call.residual or (0, 1, 0, 0)
    if config is None:
        config = InstanceNormConfig.of_pixels(
            call.shape, call.pad, call.itemsize, sms, indexed=indexed, whole=call.whole
        )
    vec = vector(call.itemsize, channels, call.strides[0], residual[0], residual[2], residual[3])
    blocks = -(-channels // config.rows)
    shared = {"VEC": vec, "PIXELS": config.block, "CHANNELS": config.rows, "num_warps": config.warps}
    batch, step, flags = call.strides[0] // vec, residual[0] // vec, call.flags
    if config.kernel == "resident":
        geometry = (channels // vec, size, batch, step, blocks)
        return (Step(pixels.resident, samples * blocks, (_X, *_OUT), geometry, flags | shared),), 0, 0
    numbers: tuple[int, ...]
    parts, chunk, sums = config.parts, config.chunk, (_MEANS, _SQUARES)
    if call.whole:
        # the pictures lie dense, so that their statistics are those of one plane each
        cut = InstanceNormConfig.of_planes((samples, 1, 1, size * channels), 0, sms, whole=True)
        parts, chunk, many, few = cut.parts, cut.chunk, samples * cut.parts, 0
        steps = [_statistics(samples, 1, size * channels, batch, cut, vec)]
    else:
        many, few = samples * parts * channels, 0
        numbers = (channels // vec, size, batch, blocks, parts, chunk)
        constants = shared | {"maxnreg": 64}
        steps = [Step(pixels.statistics, samples * parts * blocks, (_X, *sums), numbers, constants, scalars=False)]
        if parts > MERGED_BY_ALL:
            few = samples * channels
            each = min(8, power_of_two(channels))
            numbers = (channels, size, chunk, parts, -(-channels // each))
            constants = {"PARTS": power_of_two(parts), "CHANNELS": each, "num_warps": 8}
            programs = samples * -(-channels // each)
            steps.append(Step(pixels.combine, programs, (*sums, _MEAN, _SQUARE), numbers, constants, scalars=False))
            parts, chunk, sums = 1, size, (_MEAN, _SQUARE)
    numbers = (
        channels // vec, height, width, call.pad, batch, step, residual[2] // vec, residual[3] // vec,
        blocks, parts, chunk, config.out_parts, config.out_blocks,
    )  # fmt: skip
    constants = {"PARTS": power_of_two(parts), "INDEXED": indexed, "WHOLE": call.whole, **flags, **shared}
    constants["PIXELS"] = config.out_block
    steps.append(Step(pixels.apply, samples * config.out_parts * blocks, (_X, *sums, *_OUT), numbers, constants))
    return tuple(steps), many, few
