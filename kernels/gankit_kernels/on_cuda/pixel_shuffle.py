"""How PixelShuffle's kernels are chosen, cut and launched."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import torch
from torch import Tensor

from gankit_kernels.on_cuda import shuffles
from gankit_kernels.on_cuda.steps import Step
from gankit_kernels.pixel_shuffle import empty_result
from gankit_kernels.tensors import channels_last, dense, power_of_two, vector


@dataclass(frozen=True)
class PixelShuffleConfig:
    """Which kernel, and how the work is cut.

    Attributes:
        kernel: one of ``shuffles``.
        rows: rows (``planes``) or pixels (``pixels``, ``runs``) of a program.
        columns: columns (``planes``), channels (``pixels``) or values (``runs``, ``gather``) of a program.
        warps: of a program.
    """

    kernel: Literal["planes", "pixels", "runs", "gather"]
    rows: int
    columns: int
    warps: int

    @classmethod
    def from_shape(
        cls, channels: int, width: int, r: int, itemsize: int, *, last: bool, dcr: bool
    ) -> PixelShuffleConfig:
        """The default.

        Args:
            channels: of the result.
            width: of the source.
            r: the factor.
            itemsize: bytes of a value.
            last: channels_last.
            dcr: the channels' order.
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


def launch(
    x: Tensor,
    r: int,
    bias: Tensor | None,
    prelu: Tensor | None,
    activation: str,
    slope: float,
    dcr: bool,
    config: PixelShuffleConfig | None = None,
) -> Tensor:
    """Run a kernel. The arguments are those of ``gankit_kernels.pixel_shuffle.composite``, and a configuration."""
    y = empty_result(x, r)
    if y.numel() == 0:
        return y
    x = dense(x)
    shared = prelu is not None and prelu.numel() == 1
    step = _plan(
        x.shape, x.stride(0), x.itemsize, channels_last(x), r, bias is not None, prelu is not None, shared, activation,
        dcr, config,
    )  # fmt: skip
    with torch.cuda.device_of(x):
        step((x, y if bias is None else bias, y if prelu is None else prelu, y), (slope,), x.device.index)
    return y


@lru_cache(maxsize=1024)
def _plan(
    shape: tuple[int, ...],
    batch: int,
    itemsize: int,
    last: bool,
    r: int,
    bias: bool,
    prelu: bool,
    shared: bool,
    activation: str,
    dcr: bool,
    config: PixelShuffleConfig | None,
) -> Step:
    """The launch for everything that the shapes decide."""
    samples, many, height, width = shape
    channels = many // (r * r)
    if config is None:
        config = PixelShuffleConfig.from_shape(channels, width, r, itemsize, last=last, dcr=dcr)
    act = "leaky_relu" if prelu else activation
    flags = {"ACT": act, "BIAS": bias, "PRELU": prelu, "SHARED": shared, "num_warps": config.warps}
    steps = (1, channels) if dcr else (r * r, 1)
    numbers: tuple[int, ...]
    if config.kernel == "planes":
        vec = vector(itemsize, width, batch)
        rows, columns = -(-height // config.rows), -(-width // config.columns)
        programs, numbers = samples * channels * rows * columns, (channels, height, width // vec, batch // vec)
        numbers = (*numbers, *steps, rows, columns)
        sizes = {"VEC": vec, "ROWS": config.rows, "COLUMNS": config.columns}
    elif config.kernel == "pixels":
        vec = vector(itemsize, channels, batch)
        tiles, blocks = -(-height * width // config.rows), -(-channels // config.columns)
        programs, numbers = samples * tiles * blocks, (channels // vec, height, width, batch // vec, tiles, blocks)
        sizes = {"VEC": vec, "PIXELS": config.rows, "CHANNELS": config.columns}
    elif config.kernel == "runs":
        run = r * channels
        vec = vector(itemsize, run, batch)
        columns, blocks = -(-width // config.rows), -(-run // config.columns)
        programs = samples * height * r * columns * blocks
        numbers = (channels, height, width, run // vec, batch // vec, columns, blocks)
        sizes = {"VEC": vec, "PIXELS": config.rows, "RUN": config.columns}
    else:
        length = width * r * (channels if last else 1)
        blocks = -(-length // config.columns)
        strides = (1, many) if last else (height * width, 1)
        programs = samples * many * height * width // length * blocks
        numbers = (channels, height, width, batch, *strides, *steps, blocks)
        sizes = {"BLOCK": config.columns, "LAST": last}
    return Step(getattr(shuffles, config.kernel), programs, range(4), numbers, {"R": r, **sizes, **flags})
