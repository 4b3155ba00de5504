"""How PixelShuffle's kernels are chosen, cut and launched."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from gankit_kernels.on_cuda import shuffles
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
            return cls("runs", max(1, min(4096 // run, power_of_two(width))), run, 4)
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
    last = channels_last(x)
    samples, channels, height, width = x.shape[0], y.shape[1], x.shape[2], x.shape[3]
    if config is None:
        config = PixelShuffleConfig.from_shape(channels, width, r, x.itemsize, last=last, dcr=dcr)
    pointers = (x, y if bias is None else bias, y if prelu is None else prelu, y)
    constants: dict[str, Any] = {
        "R": r,
        "ACT": "leaky_relu" if prelu is not None else activation,
        "BIAS": bias is not None,
        "PRELU": prelu is not None,
        "SHARED": prelu is not None and prelu.numel() == 1,
        "num_warps": config.warps,
    }
    steps = (1, channels) if dcr else (r * r, 1)
    batch = x.stride(0)
    with torch.cuda.device_of(x):
        if config.kernel == "planes":
            vec = vector(x.itemsize, width, batch)
            rows, columns = -(-height // config.rows), -(-width // config.columns)
            shuffles.planes[(samples * channels * rows * columns,)](
                *pointers, channels, height, width // vec, batch // vec, *steps, rows, columns, slope,
                VEC=vec, ROWS=config.rows, COLUMNS=config.columns, **constants,
            )  # fmt: skip
        elif config.kernel == "pixels":
            vec = vector(x.itemsize, channels, batch)
            many, blocks = -(-height * width // config.rows), -(-channels // config.columns)
            shuffles.pixels[(samples * many * blocks,)](
                *pointers, channels // vec, height, width, batch // vec, many, blocks, slope,
                VEC=vec, PIXELS=config.rows, CHANNELS=config.columns, **constants,
            )  # fmt: skip
        elif config.kernel == "runs":
            run = r * channels
            vec = vector(x.itemsize, run, batch)
            columns, blocks = -(-width // config.rows), -(-run // config.columns)
            shuffles.runs[(samples * height * r * columns * blocks,)](
                *pointers, channels, height, width, run // vec, batch // vec, columns, blocks, slope,
                VEC=vec, PIXELS=config.rows, RUN=config.columns, **constants,
            )  # fmt: skip
        else:
            length = width * r * (channels if last else 1)
            blocks = -(-length // config.columns)
            strides = (1, channels * r * r) if last else (height * width, 1)
            shuffles.gather[(y.numel() // length * blocks,)](
                *pointers, channels, height, width, batch, *strides, *steps, blocks, slope,
                BLOCK=config.columns, LAST=last, **constants,
            )  # fmt: skip
    return y
