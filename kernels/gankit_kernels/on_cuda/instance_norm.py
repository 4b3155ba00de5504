"""How InstanceNorm's kernels are launched."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

import torch
from torch import Tensor

from gankit_kernels.on_cuda import channels_last as pixels
from gankit_kernels.on_cuda import planes
from gankit_kernels.on_cuda.norm_call import NormCall, NormPlan
from gankit_kernels.on_cuda.norm_choice import Choice, wanted
from gankit_kernels.on_cuda.norm_config import MERGED_BY_ALL, InstanceNormConfig, padded_parts
from gankit_kernels.on_cuda.norm_steps import (
    MEAN,
    MEANS,
    OUT,
    SCALARS,
    SQUARE,
    SQUARES,
    X,
    aligned,
    combine,
    part_sizes,
    statistics,
)
from gankit_kernels.on_cuda.steps import Step
from gankit_kernels.specs import NormSpec
from gankit_kernels.tensors import channels_last, dense, processors, vector

__all__ = ["InstanceNormConfig", "NormCall", "NormPlan", "launch", "plan"]


def launch(
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    residual: Tensor | None,
    spec: NormSpec,
    config: InstanceNormConfig | None = None,
) -> Tensor:
    """Run the kernels.

    Args:
        x: See :func:`gankit_kernels.instance_norm.composite`, also for the next four.
        weight: (C,) or ``None``.
        bias: (C,) or ``None``.
        residual: Of ``x``'s shape, or ``None``.
        spec: Everything about the operation that is no tensor.
        config: How the work is cut, in place of the analytic default.

    Returns:
        The result, in the dtype and the layout of ``x``.

    Raises:
        ValueError: ``config`` is cut for another shape.
    """
    y = spec.empty(x)
    if x.numel() == 0:
        return y
    x, last = dense(x), channels_last(x)
    if residual is not None and last and residual.stride(1) != 1:
        residual = residual.contiguous(memory_format=torch.channels_last)
    call = NormCall(
        shape=tuple(x.shape),
        strides=x.stride(),
        dtype=x.dtype,
        last=last,
        weight=weight is not None,
        bias=bias is not None,
        residual=None if residual is None else residual.stride(),
        activation=spec.activation,
        pad=spec.pad,
        whole=spec.whole,
    )
    todo = plan(call, processors(x.device), config)
    # y stands in for an absent tensor, which the kernels do not read
    tensors: tuple[Tensor, ...] = (
        x,
        y if weight is None else weight,
        y if bias is None else bias,
        y if residual is None else residual,
        y,
    )
    scalars = float(spec.eps), float(spec.slope)
    with torch.cuda.device_of(x):
        known = todo if todo.choice is None else todo.choice.known(x.device)
        for count in (known or todo).statistics:
            tensors += torch.empty((2, count), dtype=torch.float32, device=x.device).unbind(0)

        def run(steps: NormPlan) -> None:
            for step in steps.steps:
                step(tensors, scalars, x.device.index)

        if known is None and todo.choice is not None:
            known = todo.choice.measure(x.device, run)
        run(known or todo)
    return y


@lru_cache(maxsize=1024)
def plan(call: NormCall, sms: int, config: InstanceNormConfig | None) -> NormPlan:
    """Plan a call. The plan is cached because making it takes longer than the kernels run.

    Args:
        call: The facts that decide.
        sms: Number of multiprocessors.
        config: How the work is cut; ``None`` for the default, which also replaces a configuration whose kernel cannot
            serve the call.

    Raises:
        ValueError: ``config`` is cut for another shape.
    """
    if config is not None and not call.supports(config):
        config = None
    if config is not None:
        call.check(config)
    if not call.last:
        return _plan_planes(call, sms, config)
    if config is not None or call.whole:
        return _plan_pixels(call, sms, config)
    one = InstanceNormConfig.alone_pixels(call.shape, call.dtype.itemsize, sms)
    once = False if one is None else wanted()
    if once is not None:
        return _plan_pixels(call, sms, one if once else None)
    usual = _plan_pixels(call, sms, None)
    return replace(usual, choice=Choice(usual, _plan_pixels(call, sms, one)))


def _plan_planes(call: NormCall, sms: int, config: InstanceNormConfig | None) -> NormPlan:
    samples, channels, height, width = call.shape
    size, count, indexed = height * width, samples * channels, call.indexed
    residual = call.residual or (0, 0, 0, 0)
    if config is None:
        config = InstanceNormConfig.of_planes(call.shape, call.pad, sms, indexed=indexed, whole=call.whole)
    vec = vector(call.dtype.itemsize, size, call.strides[0], 0 if indexed else residual[0])
    strides = {
        "size_v": size // vec,
        "batch_v": call.strides[0] // vec,
        "residual_v": residual[0] if indexed else residual[0] // vec,
    }
    shared = {"VEC": vec, "BLOCK": config.block, "num_warps": config.warps, **call.flags}
    if config.kernel == "resident":
        integers = {"planes": count, "channels": channels, **strides}
        constants = {**shared, "ROWS": config.rows}
        step = Step(
            planes.resident,
            -(-count // config.rows),
            (X, *OUT),
            integers,
            constants,
            scalars=SCALARS,
        )
        return NormPlan((step,))
    geometry = {
        "channels": channels,
        "height": height,
        "width": width,
        "pad": call.pad,
        "residual_channel": residual[1],
        "residual_row": residual[2],
        "residual_column": residual[3],
        **strides,
    }
    if config.kernel == "alone":
        constants = {**shared, "INDEXED": indexed, "maxnreg": 64}
        return NormPlan(
            (
                Step(
                    planes.alone,
                    count,
                    (X, *OUT),
                    geometry,
                    constants,
                    scalars=SCALARS,
                ),
            )
        )
    counted, length = (samples, size * channels) if call.whole else (count, size)
    first = statistics(counted, 1 if call.whole else channels, length, call.strides[0], config, vec)
    second = Step(
        planes.apply,
        count * config.out_parts,
        (X, MEANS, SQUARES, *OUT),
        geometry | part_sizes(config.parts, config.chunk, config),
        {
            **shared,
            "BLOCK": config.out_block,
            "PARTS": padded_parts(config.parts, last=False, whole=call.whole),
            "INDEXED": indexed,
            "WHOLE": call.whole,
        },
        scalars=SCALARS,
    )
    return NormPlan((first, second), aligned(counted * config.parts))


def _plan_pixels(call: NormCall, sms: int, config: InstanceNormConfig | None) -> NormPlan:
    samples, channels, height, width = call.shape
    size, indexed = height * width, call.indexed
    residual = call.residual or (0, 1, 0, 0)
    if config is None:
        config = InstanceNormConfig.of_pixels(
            call.shape, call.pad, call.dtype.itemsize, sms, indexed=indexed, whole=call.whole
        )
    vec = vector(call.dtype.itemsize, channels, call.strides[0], residual[0], residual[2], residual[3])
    blocks = -(-channels // config.rows)
    shared = {"VEC": vec, "PIXELS": config.block, "CHANNELS": config.rows, "num_warps": config.warps}
    strides = {
        "channels_v": channels // vec,
        "batch_v": call.strides[0] // vec,
        "residual_v": residual[0] // vec,
        "channel_blocks": blocks,
    }
    if config.kernel == "resident":
        integers = {**strides, "size": size}
        step = Step(
            pixels.resident,
            samples * blocks,
            (X, *OUT),
            integers,
            shared | call.flags,
            scalars=SCALARS,
        )
        return NormPlan((step,))
    image = {
        "height": height,
        "width": width,
        "pad": call.pad,
        "residual_row": residual[2] // vec,
        "residual_column": residual[3] // vec,
        **strides,
    }
    if config.kernel == "alone":
        constants = {**shared, **call.flags, "OUT": config.out_block, "INDEXED": indexed}
        return NormPlan((Step(pixels.alone, samples * blocks, (X, *OUT), image, constants, scalars=SCALARS),))
    parts, chunk, sums = config.parts, config.chunk, (MEANS, SQUARES)
    counts = [samples * parts * channels]
    if call.whole:
        # every image is dense, so that its statistics are those of one plane
        cut = InstanceNormConfig.of_planes((samples, 1, 1, size * channels), 0, sms, whole=True)
        parts, chunk, counts = cut.parts, cut.chunk, [samples * cut.parts]
        steps = [statistics(samples, 1, size * channels, call.strides[0], cut, vec)]
    else:
        integers = {
            "channels_v": channels // vec,
            "size": size,
            "batch_v": call.strides[0] // vec,
            "channel_blocks": blocks,
            "parts": parts,
            "chunk": chunk,
        }
        steps = [Step(pixels.statistics, samples * parts * blocks, (X, *sums), integers, shared | {"maxnreg": 64})]
        if parts > MERGED_BY_ALL:
            counts.append(samples * channels)
            steps.append(combine(samples, channels, size, chunk, parts))
            parts, chunk, sums = 1, size, (MEAN, SQUARE)
    integers = {**image, **part_sizes(parts, chunk, config)}
    constants = {
        **shared,
        **call.flags,
        "PIXELS": config.out_block,
        "PARTS": padded_parts(parts, last=True, whole=call.whole),
        "INDEXED": indexed,
    }
    constants["WHOLE"] = call.whole
    programs = samples * config.out_parts * blocks
    steps.append(
        Step(
            pixels.apply,
            programs,
            (X, *sums, *OUT),
            integers,
            constants,
            scalars=SCALARS,
        )
    )
    return NormPlan(tuple(steps), aligned(*counts))
