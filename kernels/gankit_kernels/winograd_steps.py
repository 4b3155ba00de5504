"""Convolutions that halve or double an image, on the CPU with a fraction of the products.

A convolution with stride 2 is one with stride 1 over four parts of its input, each of every second row and column; a
transposed one makes four such parts of its result. With 3×3 or 4×4 weights those are 2×2 convolutions, which Winograd's
algorithm runs in tiles of 3×3 or 5×5 results; see :mod:`gankit_kernels.on_cpu.winograd`.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from gankit_kernels.on_cpu import llvm, tiling
from gankit_kernels.on_cpu.tiled import Tiled, check_values

_WEIGHTS = (3, 4)  # rows and columns of kernels


def suits(channels: int, results: int, *, doubles: bool) -> bool:
    """Whether such convolutions run here.

    Args:
        channels: number of input channels, which must fill registers.
        results: number of output channels. They must fill registers if the size is halved; if it is doubled, four times
            as many must fill the last one to a half at least.
        doubles: whether the convolution is transposed.
    """
    if not llvm.installed() or channels % llvm.lanes():
        return False
    return results % llvm.lanes() == 0 or (doubles and 4 * results % llvm.lanes() in (0, llvm.lanes() // 2))


class Halving(Tiled):
    """A 3×3 or 4×4 convolution with stride 2 and padding 1. Several threads may call it at once.

    Results differ from those of a direct convolution like those of :class:`gankit_kernels.winograd.Winograd`.

    Args:
        weight: (C', C, k, k) float32, k 3 or 4. C and C' are multiples of what a register holds.
        bias: (C',), or ``None``.
        slopes: (C',) factors of negative results, as in PReLU; zeros are a ReLU. ``None`` leaves all results as they
            are.

    Raises:
        ImportError: If llvmlite is not installed.
        ValueError: If a shape does not fit, or the numbers of channels do not.
        TypeError: If the weight is not float32 on the CPU.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None = None, slopes: Tensor | None = None) -> None:
        self._weight = _checked(weight, "(C', C, {0}, {0})")
        self._kernel = weight.shape[3]
        super().__init__((*weight.shape[:2], 2), bias, slopes, "two")

    def parts(self) -> list[Tensor]:
        """Row 2p - 1 + i of the input meets weight i of result p, and weight 2 + i of the one before."""
        full = _four_by_four(self._weight)
        return [full[:, :, i::2, j::2] for i in range(2) for j in range(2)]

    def pays(self, x: Tensor) -> bool:
        """Whether images are large enough for a gain."""
        return tiling.pays(self.side, len(x), *self._size(x))

    def _size(self, x: Tensor) -> tuple[int, int]:
        return (x.shape[2] + 4 - self._kernel) // 2, (x.shape[3] + 4 - self._kernel) // 2

    def __call__(self, x: Tensor, threads: int = 1) -> Tensor:
        """Convolve.

        Args:
            x: (N, C, H, W) float32. It is copied unless it is channels_last, or some of the rows of such a tensor.
            threads: number of threads that share the tiles.

        Returns:
            (N, C', H', W') channels_last, half as many rows and columns: rounded up for k = 3, down for k = 4.

        Raises:
            ValueError: If the shape does not fit.
            TypeError: If ``x`` is not float32 on the CPU.
        """
        x = self.entered(x)
        size = self._size(x)
        if min(size) < 1:
            raise ValueError(f"{x.shape[2]}×{x.shape[3]} pixels are too few for a 4×4 kernel with padding 1")
        result = self.place(x, size, None)
        self.compute(x, result, size, (0, 0), False, threads)
        return self.wanted(result)


class Doubling(Tiled):
    """A transposed convolution that doubles an image: 4×4 with stride 2 and padding 1, or 3×3 with an output padding.

    Several threads may call it at once.

    Args:
        weight: (C, C', k, k) float32, k 3 or 4, as ``nn.ConvTranspose2d`` has it; see :func:`suits`.
        bias: (C',), or ``None``.
        slopes: (C',), or ``None``, as for :class:`Halving`.

    Raises:
        ImportError: If llvmlite is not installed.
        ValueError: If a shape does not fit, or the numbers of channels do not.
        TypeError: If the weight is not float32 on the CPU.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None = None, slopes: Tensor | None = None) -> None:
        self._weight = _checked(weight, "(C, C', {0}, {0})").transpose(0, 1)
        results, channels = self._weight.shape[:2]
        self._packed = results % llvm.lanes() != 0  # the four parts side by side fill registers
        if self._packed:
            bias, slopes = (None if values is None else values.repeat(4) for values in (bias, slopes))
        shape = 4 * results if self._packed else results, channels, 2
        super().__init__(shape, bias, slopes, "one" if self._packed else "half")

    def parts(self) -> list[Tensor]:
        """Row 2p - 1 + i of the result is of row p - 1 of the input by weight 2 + i, and of row p by weight i."""
        full = _four_by_four(self._weight)
        parts = [full[:, :, [2 + i, i]][:, :, :, [2 + j, j]] for i in range(2) for j in range(2)]
        return [torch.cat(parts)] if self._packed else parts

    def pays(self, x: Tensor) -> bool:
        """Whether images are large enough for a gain."""
        return tiling.pays(self.side, len(x), x.shape[2] + 1, x.shape[3] + 1)

    def __call__(self, x: Tensor, threads: int = 1) -> Tensor:
        """Convolve.

        Args:
            x: (N, C, H, W) float32. It is copied unless it is channels_last, or some of the rows of such a tensor.
            threads: number of threads that share the tiles.

        Returns:
            (N, C', 2H, 2W) channels_last.

        Raises:
            ValueError: If the shape does not fit.
            TypeError: If ``x`` is not float32 on the CPU.
        """
        x = self.entered(x)
        count, _, height, width = x.shape
        size = height + 1, width + 1
        result = self.place(x, size if self._packed else (2 * height, 2 * width), None)
        self.compute(x, result, size, (1, 1), False, threads)
        if not self._packed:
            return self.wanted(result)
        # (rows, i, columns, j): the first and the last of each lie outside.
        pixels = self.wanted(result).permute(0, 2, 3, 1).reshape(count, *size, 2, 2, -1).permute(0, 1, 3, 2, 4, 5)
        pixels = pixels.reshape(count, 2 * size[0], 2 * size[1], -1)[:, 1:-1, 1:-1]
        return pixels.permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last)


def _checked(weight: Tensor, shape: str) -> Tensor:
    check_values("weight", weight)
    if weight.ndim != 4 or weight.shape[2] != weight.shape[3] or weight.shape[3] not in _WEIGHTS:
        raise ValueError(f"weight must be {shape.format(3)} or {shape.format(4)}, not {tuple(weight.shape)}")
    return weight.detach()


def _four_by_four(weight: Tensor) -> Tensor:
    """The weights with zeros behind them."""
    return functional.pad(weight, (0, 4 - weight.shape[3]) * 2)
