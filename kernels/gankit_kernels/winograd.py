"""3×3 convolutions on the CPU with a quarter of the products; see :mod:`gankit_kernels.on_cpu.winograd`."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import torch
from torch import Tensor

from gankit_kernels.on_cpu import llvm
from gankit_kernels.on_cpu import winograd as kernels

# Multiplies a column of three weights; Gᵀ of the paper is its transpose.
_G = (
    *((1 / 4, 0, 0), (-1 / 6, -1 / 6, -1 / 6), (-1 / 6, 1 / 6, -1 / 6)),
    *((1 / 24, 1 / 12, 1 / 6), (1 / 24, -1 / 12, 1 / 6), (0, 0, 1)),
)
_FLOAT_BYTES = 4
_room = threading.local()
_lock = threading.Lock()
_pools: dict[int, ThreadPoolExecutor] = {}


def suits(channels: int, results: int) -> bool:
    """Whether convolutions from and to so many channels run here: multiples of what a register holds.

    Args:
        channels: number of input channels.
        results: number of output channels.
    """
    return llvm.installed() and channels % llvm.lanes() == results % llvm.lanes() == 0


class Winograd:
    """A 3×3 convolution with stride 1, and what follows it. Several threads may call it at once.

    Results differ from those of a direct convolution by 1e-6 (few channels) to 2e-5 (512) of the largest one. Tiles of
    4×4 results share their sums, so that NaN and infinity reach all of the tiles that see them.

    Args:
        weight: (C', C, 3, 3) float32, of numbers of channels that :func:`suits` accepts.
        bias: (C',), or ``None``.
        slopes: (C',) factors of negative results, as in PReLU; zeros are a ReLU. ``None`` leaves all results as they
            are.

    Raises:
        ImportError: If llvmlite is not installed.
        ValueError: If a shape does not fit, or the numbers of channels do not.
        TypeError: If the weight is not float32 on the CPU.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None = None, slopes: Tensor | None = None) -> None:
        _check_values("weight", weight)
        if weight.ndim != 4 or weight.shape[2:] != (3, 3):
            raise ValueError(f"weight must be (C', C, 3, 3), not {tuple(weight.shape)}")
        self._results, self._channels = weight.shape[:2]
        if self._channels % llvm.lanes() or self._results % llvm.lanes():
            raise ValueError(
                f"the numbers of channels must be multiples of {llvm.lanes()}, not {tuple(weight.shape[:2])}"
            )
        for name, values in (("bias", bias), ("slopes", slopes)):
            if values is not None and values.shape != (self._results,):
                raise ValueError(f"{name} must be ({self._results},), not {tuple(values.shape)}")
        together = kernels.panel(self._results)
        g = torch.tensor(_G, dtype=torch.float64)
        products = torch.einsum("ia,kcab,jb->ijck", g, weight.detach().double(), g).float()
        panels = products.reshape(kernels.SLOTS, self._channels, -1, together).transpose(1, 2)
        self._weights = panels.contiguous()
        zeros = torch.zeros(self._results)
        self._bias = zeros if bias is None else bias.detach().float().contiguous()
        self._slopes = zeros if slopes is None else slopes.detach().float().contiguous()
        self._activation: kernels.Activation = "none" if slopes is None else "slope" if bool(slopes.any()) else "relu"
        self._tall = kernels.rows_of(together)
        self._most = -(-kernels.tiles_at_once(self._channels, self._results) // self._tall) * self._tall
        self._together = together

    def __call__(
        self, x: Tensor, padding: tuple[int, int] = (0, 0), add_to: Tensor | None = None, threads: int = 1
    ) -> Tensor:
        """Convolve.

        Args:
            x: (N, C, H, W) float32. It is copied unless it is channels_last, or some of the rows of such a tensor.
            padding: 0 or 1 zeros above and below, and left and right.
            add_to: a tensor of the result's shape and layout to which the result is added in place.
            threads: number of threads that share the rows of an image.

        Returns:
            (N, C', H', W') channels_last, or ``add_to``.

        Raises:
            ValueError: If a shape, a padding or the layout of ``add_to`` does not fit.
            TypeError: If a tensor is not float32 on the CPU.
        """
        # The kernels take addresses, so that nothing else would notice.
        _check_values("x", x)
        if x.ndim != 4 or x.shape[1] != self._channels:
            raise ValueError(f"x must be (N, {self._channels}, H, W), not {tuple(x.shape)}")
        if not {*padding} <= {0, 1}:
            raise ValueError(f"padding must be 0 or 1 on each axis, not {padding}")
        count, _, height, width = x.shape
        rows, columns = height - 2 + 2 * padding[0], width - 2 + 2 * padding[1]
        if rows < 1 or columns < 1:
            raise ValueError(f"{height}×{width} pixels with the padding {padding} are fewer than the kernel's 3×3")
        x = x if _is_dense(x) else x.contiguous(memory_format=torch.channels_last)
        shape, result = (count, self._results, rows, columns), add_to
        if result is None:
            result = torch.empty(shape, memory_format=torch.channels_last)
        else:
            _check_values("add_to", result)
            if result.shape != shape or not _is_dense(result):
                raise ValueError(f"add_to must be {shape} and channels_last, not {tuple(result.shape)}")
        # Each thread takes some rows of tiles.
        share = -(-rows // (kernels.TILE * threads)) * kernels.TILE
        work = [
            partial(self._run, x[index], result[index], padding, first, min(rows, first + share), add_to is not None)
            for index in range(count)
            for first in range(0, rows, share)
        ]
        if len(work) == 1 or threads == 1:
            for part in work:
                part()
        else:
            for item in [_pool(threads).submit(part) for part in work]:
                item.result()
        return result

    def _run(self, x: Tensor, y: Tensor, padding: tuple[int, int], first: int, stop: int, add: bool) -> None:
        """Compute the rows from ``first`` to ``stop`` of one image."""
        channels, results, most = self._channels, self._results, self._most
        above = max(0, padding[0] - first)
        top = max(0, first - padding[0])
        zeros, nowhere, v, m = _workspace(channels, results, most)
        kernels.run()(
            x.data_ptr() + top * x.stride(1) * _FLOAT_BYTES, x.stride(1), channels, x.shape[1] - top, x.shape[2],
            above, padding[1], self._weights.data_ptr(), self._bias.data_ptr(), self._slopes.data_ptr(),
            y.data_ptr() + first * y.stride(1) * _FLOAT_BYTES, y.stride(1), results, stop - first, y.shape[2],
            v, m, most, self._tall, zeros, nowhere,
            kernels.transform().address, kernels.multiply(self._together).address,
            kernels.finish(self._activation, add).address,
        )  # fmt: skip


def _check_values(name: str, values: Tensor) -> None:
    if values.dtype != torch.float32 or values.device.type != "cpu":
        raise TypeError(f"{name} must be float32 on the CPU, not {values.dtype} on {values.device}")


def _is_dense(x: Tensor) -> bool:
    """Whether the pixels of each row lie side by side, with all channels of each together."""
    _, channels, height, width = x.shape
    rows = x.stride(2) >= channels * width or height == 1
    return x.stride(1) == 1 and (x.stride(3) == channels or width == 1) and rows


def _workspace(channels: int, results: int, most: int) -> tuple[int, int, int, int]:
    """Addresses of zeros, of room for results that no one wants, and of the two tables; of this thread alone."""
    widest = max(channels, results)
    needed = 2 * widest + kernels.SLOTS * most * (channels + results)
    room: Tensor | None = getattr(_room, "values", None)
    if room is None or room.numel() < needed:
        room = _room.values = torch.zeros(needed)  # zeros, because strange bits would slow arithmetic down
    start = room.data_ptr()
    room[:widest].zero_()
    v = start + 2 * widest * _FLOAT_BYTES
    return start, start + widest * _FLOAT_BYTES, v, v + kernels.SLOTS * most * channels * _FLOAT_BYTES


def _pool(threads: int) -> ThreadPoolExecutor:
    with _lock:
        if threads not in _pools:
            _pools[threads] = ThreadPoolExecutor(threads, thread_name_prefix="gankit-winograd")
        return _pools[threads]
