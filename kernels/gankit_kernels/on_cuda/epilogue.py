"""How the epilogue's kernels are chosen, cut and launched."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional as F

from gankit_kernels.on_cuda import epilogues
from gankit_kernels.on_cuda.steps import Step
from gankit_kernels.specs import EpilogueSpec
from gankit_kernels.tensors import channels_last, power_of_two, vector

_BLOCK_BYTES = 8192  # of the source for each program: four wide loads for each of its 128 threads
_WIDE = 16  # bytes of a wide access
_MOST_CHANNELS = 256  # channels of a program
_MOST_ROWS = 256  # pixels of a program that computes their rows and columns


@dataclass(frozen=True)
class EpilogueCall:
    """Everything about a call that decides its launch.

    Attributes:
        shape: (N, C, H, W) of the source.
        dtype: Dtype of the source.
        last: Whether the source is channels_last.
        bias: Whether there is a bias.
        prelu: Number of PReLU's slopes; 0 where there are none.
        residual: Whether there is a residual.
        activation: Name of the activation.
        before: Whether the residual is added before the activation.
        pads: Reflected border (left, right, top, bottom) around the result.
        strides: Strides of the source and of the residual where rows and columns must be computed, for a border or
            because a tensor is not dense; ``None`` where all tensors are dense in one layout.
    """

    shape: tuple[int, ...]
    dtype: torch.dtype
    last: bool
    bias: bool
    prelu: int
    residual: bool
    activation: str
    before: bool
    pads: tuple[int, ...]
    strides: tuple[tuple[int, ...], tuple[int, ...]] | None


def launch(x: Tensor, bias: Tensor | None, prelu: Tensor | None, residual: Tensor | None, spec: EpilogueSpec) -> Tensor:
    """Run a kernel into a new tensor.

    Args:
        x: See :func:`gankit_kernels.epilogue.composite`, also for the next four.
        bias: (C,) or ``None``.
        prelu: (1,), (C,) or ``None``.
        residual: Of ``x``'s shape, or ``None``.
        spec: Everything about the operation that is no tensor.

    Returns:
        The result, in the dtype and the layout of ``x``.
    """
    last = channels_last(x)
    if not last and spec.padded:
        # no engine uses planes with a border here, so torch adds it
        inner = launch(x, bias, prelu, residual, spec.without_border())
        return F.pad(inner, tuple(spec.pads), mode="reflect")
    y = spec.empty(x)
    if y.numel():
        _run(x, bias, prelu, residual, y, spec, last)
    return y


def launch_in_place(
    x: Tensor, bias: Tensor | None, prelu: Tensor | None, residual: Tensor | None, spec: EpilogueSpec
) -> None:
    """Run a kernel that overwrites ``x``; ``spec`` has no border."""
    if x.numel() == 0:
        return
    last = channels_last(x)
    if _dense(x, last):
        _run(x, bias, prelu, residual, x, spec, last)
    else:
        x.copy_(launch(x, bias, prelu, residual, spec))


def _run(
    x: Tensor,
    bias: Tensor | None,
    prelu: Tensor | None,
    residual: Tensor | None,
    y: Tensor,
    spec: EpilogueSpec,
    last: bool,
) -> None:
    strides = None
    if not last:
        x = x.contiguous()
        residual = None if residual is None else residual.contiguous()
    else:
        if residual is not None and residual.stride(1) != 1:
            residual = residual.contiguous(memory_format=torch.channels_last)
        if spec.padded or not _dense(x, True) or (residual is not None and not _dense(residual, True)):
            strides = x.stride(), (0, 1, 0, 0) if residual is None else residual.stride()
    call = EpilogueCall(
        shape=tuple(x.shape),
        dtype=x.dtype,
        last=last,
        bias=bias is not None,
        prelu=0 if prelu is None else prelu.numel(),
        residual=residual is not None,
        activation=spec.activation,
        before=spec.before,
        pads=tuple(spec.pads),
        strides=strides,
    )
    step = plan(call)
    # y stands in for an absent tensor, which the kernels do not read
    tensors = (
        x,
        y if bias is None else bias,
        y if prelu is None else prelu,
        y if residual is None else residual,
        y,
    )
    with torch.cuda.device_of(x):
        step(tensors, (float(spec.slope), float(spec.scale)), x.device.index)


def _dense(x: Tensor, last: bool) -> bool:
    return x.is_contiguous(memory_format=torch.channels_last if last else torch.contiguous_format)


@lru_cache(maxsize=1024)
def plan(call: EpilogueCall) -> Step:
    """Plan a call's launch. The plan is cached because making it takes longer than the kernel runs."""
    samples, channels, height, width = call.shape
    itemsize, size = call.dtype.itemsize, height * width
    block = _BLOCK_BYTES // itemsize
    constants = {
        "ACT": "leaky_relu" if call.prelu else call.activation,
        "BIAS": call.bias,
        "PRELU": call.prelu > 0,
        "SHARED": call.prelu == 1,
        "RESIDUAL": call.residual,
        "BEFORE": call.before,
        "num_warps": 4,
    }
    integers: dict[str, int]
    if not call.last:
        vec = vector(itemsize, size)
        block = min(block, max(128, power_of_two(size)))
        blocks = -(-size // block)
        integers = {"channels": channels, "size_v": size // vec, "blocks": blocks}
        constants |= {"VEC": vec, "BLOCK": block}
        return _step("planes", samples * channels * blocks, integers, constants)
    most = min(_MOST_CHANNELS, power_of_two(channels))
    channel_blocks = -(-channels // most)
    rows = block // most
    if call.strides is not None:
        source, other = call.strides
        left, right, top, bottom = call.pads
        out_width, out_height = left + width + right, top + height + bottom
        vec = vector(itemsize, channels, source[0], source[2], source[3], other[0], other[2], other[3])
        rows = min(rows, _MOST_ROWS)
        pixel_blocks = -(-out_width * out_height // rows)
        integers = {
            "channels_v": channels // vec,
            "height": height,
            "width": width,
            "left": left,
            "top": top,
            "out_width": out_width,
            "out_size": out_width * out_height,
            "batch_v": source[0] // vec,
            "row_v": source[2] // vec,
            "pixel_v": source[3] // vec,
            "residual_v": other[0] // vec,
            "residual_row": other[2] // vec,
            "residual_column": other[3] // vec,
            "pixel_blocks": pixel_blocks,
            "channel_blocks": channel_blocks,
        }
        constants |= {"VEC": vec, "PIXELS": rows, "CHANNELS": most}
        return _step("bordered", samples * pixel_blocks * channel_blocks, integers, constants)
    if channels * itemsize % _WIDE:
        count = samples * channels * size
        vec = vector(itemsize, count)
        constants |= {"C": channels, "VEC": vec, "BLOCK": block}
        return _step("values", -(-count // block), {"count_v": count // vec}, constants)
    vec = vector(itemsize, channels)
    integers = {"channels_v": channels // vec, "size": samples * size, "channel_blocks": channel_blocks}
    constants |= {"VEC": vec, "PIXELS": rows, "CHANNELS": most}
    return _step("pixels", -(-samples * size // rows) * channel_blocks, integers, constants)


def _step(kernel: str, programs: int, integers: dict[str, int], constants: dict[str, object]) -> Step:
    return Step(getattr(epilogues, kernel), programs, range(5), integers, constants, scalars=("slope", "scale"))
