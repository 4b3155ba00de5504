"""How PixelShuffle's kernels are chosen, cut and launched."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import torch
from torch import Tensor

from gankit_kernels.on_cuda import shuffles
from gankit_kernels.on_cuda.steps import Step
from gankit_kernels.specs import ShuffleSpec
from gankit_kernels.tensors import channels_last, dense, power_of_two, vector


@dataclass(frozen=True)
class PixelShuffleConfig:
    """Which kernel runs, and how the work is cut.

    Attributes:
        kernel: One of the kernels in ``shuffles``.
        rows: Rows (``planes``) or pixels (``pixels``, ``runs``) per program.
        columns: Columns (``planes``), channels (``pixels``) or values (``runs``, ``gather``) per program.
        warps: Warps per program.
    """

    kernel: Literal["planes", "pixels", "runs", "gather"]
    rows: int
    columns: int
    warps: int

    @classmethod
    def from_shape(
        cls, channels: int, width: int, r: int, itemsize: int, *, last: bool, dcr: bool
    ) -> PixelShuffleConfig:
        """The analytic default.

        Args:
            channels: Channels of the result.
            width: Width of the source.
            r: Upscaling factor.
            itemsize: Bytes of a value.
            last: Whether the source is channels_last.
            dcr: Whether the source's channels are in the order (sub-row, sub-column, channel).
        """
        if last and dcr:
            run = min(256, power_of_two(r * channels))
            return cls("runs", max(1, min(2048 // run, power_of_two(width))), run, 4)
        if last and r in (2, 4) and channels * itemsize % 16 == 0:
            most = min(64 if r == 2 else 32, power_of_two(channels))
            return cls("pixels", max(1, 4096 // (most * r * r)), most, 4)
        if not last and r in (2, 4):
            columns = min(128, power_of_two(width))
            return cls("planes", max(1, 1024 // columns), columns, 8 if r == 2 else 4)
        columns = min(1024, power_of_two(width * r * (channels if last else 1)))
        return cls("gather", 1, columns, max(1, columns // 256))


@dataclass(frozen=True)
class ShuffleCall:
    """Everything about a call that decides its launch.

    Attributes:
        shape: (N, C·r², H, W) of the source.
        batch: Values from one image of the source to the next.
        dtype: Dtype of the source.
        last: Whether the source is channels_last.
        r: Upscaling factor.
        bias: Whether there is a bias.
        prelu: Number of PReLU's slopes; 0 where there are none.
        activation: Name of the activation.
        dcr: Whether the source's channels are in the order (sub-row, sub-column, channel).
        pixel: Values from one pixel of the source to the next; 0 for planes.
    """

    shape: tuple[int, ...]
    batch: int
    dtype: torch.dtype
    last: bool
    r: int
    bias: bool
    prelu: int
    activation: str
    dcr: bool
    pixel: int


def launch(
    x: Tensor,
    bias: Tensor | None,
    prelu: Tensor | None,
    spec: ShuffleSpec,
    config: PixelShuffleConfig | None = None,
) -> Tensor:
    """Run a kernel.

    Args:
        x: See :func:`gankit_kernels.pixel_shuffle.composite`, also for the next three.
        bias: (C·r²,) or ``None``.
        prelu: (1,), (C,) or ``None``.
        spec: Everything about the operation that is no tensor.
        config: Which kernel runs, in place of the analytic default.

    Returns:
        The result, in the dtype and the layout of ``x``.
    """
    y = spec.empty(x)
    if y.numel() == 0:
        return y
    last = channels_last(x)
    if not (last and spec.dcr and config is None and _first_channels(x)):
        x = dense(x)
    call = ShuffleCall(
        shape=tuple(x.shape),
        batch=x.stride(0),
        dtype=x.dtype,
        last=last,
        r=spec.r,
        bias=bias is not None,
        prelu=0 if prelu is None else prelu.numel(),
        activation=spec.activation,
        dcr=spec.dcr,
        pixel=x.stride(3) if last else 0,
    )
    step = plan(call, config)
    with torch.cuda.device_of(x):
        tensors = (x, y if bias is None else bias, y if prelu is None else prelu, y)
        step(tensors, (float(spec.slope),), x.device.index)
    return y


def _first_channels(x: Tensor) -> bool:
    """Whether ``x`` has the first channels of images in channels_last, whose rows follow each other."""
    return x.stride(3) >= x.shape[1] and x.stride(2) == x.shape[3] * x.stride(3)


@lru_cache(maxsize=1024)
def plan(call: ShuffleCall, config: PixelShuffleConfig | None) -> Step:
    """Plan a call's launch. The plan is cached because making it takes longer than the kernel runs."""
    samples, many, height, width = call.shape
    r, last, itemsize = call.r, call.last, call.dtype.itemsize
    channels = many // (r * r)
    if config is None:
        config = PixelShuffleConfig.from_shape(channels, width, r, itemsize, last=last, dcr=call.dcr)
    channel_step, sub_step = (1, channels) if call.dcr else (r * r, 1)
    integers: dict[str, int]
    if config.kernel == "planes":
        vec = vector(itemsize, width, call.batch)
        rows, columns = -(-height // config.rows), -(-width // config.columns)
        programs = samples * channels * rows * columns
        integers = {
            "channels": channels,
            "height": height,
            "width_v": width // vec,
            "batch_v": call.batch // vec,
            "channel_step": channel_step,
            "sub_step": sub_step,
            "row_blocks": rows,
            "column_blocks": columns,
        }
        sizes = {"VEC": vec, "ROWS": config.rows, "COLUMNS": config.columns}
    elif config.kernel == "pixels":
        vec = vector(itemsize, channels, call.batch)
        tiles, blocks = -(-height * width // config.rows), -(-channels // config.columns)
        programs = samples * tiles * blocks
        integers = {
            "channels_v": channels // vec,
            "height": height,
            "width": width,
            "batch_v": call.batch // vec,
            "pixel_blocks": tiles,
            "channel_blocks": blocks,
        }
        sizes = {"VEC": vec, "PIXELS": config.rows, "CHANNELS": config.columns}
    elif config.kernel == "runs":
        run = r * channels
        vec = vector(itemsize, run, call.batch, call.pixel)
        columns, blocks = -(-width // config.rows), -(-run // config.columns)
        programs = samples * height * r * columns * blocks
        integers = {
            "channels": channels,
            "height": height,
            "width": width,
            "run_v": run // vec,
            "batch_v": call.batch // vec,
            "pixel_v": call.pixel // vec,
            "column_blocks": columns,
            "run_blocks": blocks,
        }
        sizes = {"VEC": vec, "PIXELS": config.rows, "RUN": config.columns}
    else:
        length = width * r * (channels if last else 1)
        blocks = -(-length // config.columns)
        programs = samples * many * height * width // length * blocks
        integers = {
            "channels": channels,
            "height": height,
            "width": width,
            "batch": call.batch,
            "channel_stride": 1 if last else height * width,
            "pixel_stride": many if last else 1,
            "channel_step": channel_step,
            "sub_step": sub_step,
            "blocks": blocks,
        }
        sizes = {"BLOCK": config.columns, "LAST": last}
    constants = {
        "R": r,
        "ACT": "leaky_relu" if call.prelu else call.activation,
        "BIAS": call.bias,
        "PRELU": call.prelu > 0,
        "SHARED": call.prelu == 1,
        "num_warps": config.warps,
        **sizes,
    }
    return Step(getattr(shuffles, config.kernel), programs, range(4), integers, constants, scalars=("slope",))
