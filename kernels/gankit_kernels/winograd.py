"""3×3 and 5×5 convolutions on the CPU with a fraction of the products; see :mod:`gankit_kernels.on_cpu.winograd`."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional

from gankit_kernels.on_cpu import llvm, transforms
from gankit_kernels.on_cpu import winograd as kernels

_FLOAT_BYTES = 4
_room = threading.local()
_lock = threading.Lock()
_pools: dict[int, ThreadPoolExecutor] = {}


def suits(channels: int, results: int, weights: int = 3) -> bool:
    """Whether convolutions from and to so many channels run here.

    Input channels must fill registers. So must output channels with 3×3 weights; with 5×5 the last register may be
    filled to a half, because so many products are saved.

    Args:
        channels: number of input channels.
        results: number of output channels.
        weights: rows and columns of the kernel.
    """
    if not llvm.installed() or weights not in transforms.SIDES or channels % llvm.lanes():
        return False
    return results % llvm.lanes() == 0 or (weights == 5 and results % llvm.lanes() >= llvm.lanes() // 2)


class Winograd:
    """A 3×3 or 5×5 convolution with stride 1, and what follows it. Several threads may call it at once.

    Results differ from those of a direct convolution by 1e-6 (few channels) to 3e-5 (512) of the largest one. Tiles of
    4×4 or 6×6 results share their sums, so that NaN and infinity reach all of the tiles that see them. The weights are
    transformed at the first call, and again at the first one that takes tiles of the other size.

    Args:
        weight: (C', C, k, k) float32, k 3 or 5. C is a multiple of what a register holds. If C' is none, zeros fill
            the last register, and the result is a view of a tensor with more channels.
        bias: (C',), or ``None``.
        slopes: (C',) factors of negative results, as in PReLU; zeros are a ReLU. ``None`` leaves all results as they
            are.

    Attributes:
        filled: number of output channels with those that fill the last register.

    Raises:
        ImportError: If llvmlite is not installed.
        ValueError: If a shape does not fit, or the numbers of channels do not.
        TypeError: If the weight is not float32 on the CPU.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None = None, slopes: Tensor | None = None) -> None:
        _check_values("weight", weight)
        if weight.ndim != 4 or weight.shape[2] != weight.shape[3] or weight.shape[3] not in transforms.SIDES:
            raise ValueError(f"weight must be (C', C, 3, 3) or (C', C, 5, 5), not {tuple(weight.shape)}")
        self._results, self._channels, self._side = weight.shape[:3]
        if self._channels % llvm.lanes():
            raise ValueError(f"the number of input channels must be a multiple of {llvm.lanes()}, not {self._channels}")
        for name, values in (("bias", bias), ("slopes", slopes)):
            if values is not None and values.shape != (self._results,):
                raise ValueError(f"{name} must be ({self._results},), not {tuple(values.shape)}")
        self.filled = -(-self._results // llvm.lanes()) * llvm.lanes()
        self._weight = weight.detach()
        zeros = torch.zeros(self._results)
        self._bias = self._fill(zeros if bias is None else bias.detach().float())
        self._slopes = self._fill(zeros if slopes is None else slopes.detach().float())
        self._activation: kernels.Activation = "none" if slopes is None else "slope" if bool(slopes.any()) else "relu"
        self._depth = kernels.channels_at_once(self._channels, self.filled, self._side)
        self._together = kernels.panel(self.filled)
        self._tall = kernels.rows_of(self._together)
        self._transformed: dict[transforms.Tile, Tensor] = {}

    def __call__(
        self,
        x: Tensor,
        padding: tuple[int, int] = (0, 0),
        add_to: Tensor | None = None,
        threads: int = 1,
        out: Tensor | None = None,
    ) -> Tensor:
        """Convolve.

        Args:
            x: (N, C, H, W) float32. It is copied unless it is channels_last, or some of the rows of such a tensor.
            padding: zeros above and below, and left and right; at most half of the kernel, 1 or 2.
            add_to: a tensor of the result's shape and layout to which the result is added in place.
            threads: number of threads that share the rows of an image.
            out: (N, filled, H', W') of a layout like ``add_to``'s, into which the result is written.

        Returns:
            (N, C', H', W') channels_last, or ``add_to``.

        Raises:
            ValueError: If a shape, a padding or the layout of ``add_to`` or ``out`` does not fit.
            TypeError: If a tensor is not float32 on the CPU.
        """
        # The kernels take addresses, so that nothing else would notice.
        _check_values("x", x)
        if x.ndim != 4 or x.shape[1] != self._channels:
            raise ValueError(f"x must be (N, {self._channels}, H, W), not {tuple(x.shape)}")
        reach = self._side // 2
        if not {*padding} <= {*range(reach + 1)}:
            raise ValueError(f"padding must be 0 to {reach} on each axis, not {padding}")
        count, _, height, width = x.shape
        rows, columns = height + 2 * (padding[0] - reach), width + 2 * (padding[1] - reach)
        if rows < 1 or columns < 1:
            kernel = f"{self._side}×{self._side}"
            raise ValueError(f"{height}×{width} pixels with the padding {padding} are fewer than the kernel's {kernel}")
        x = x if _is_dense(x) else x.contiguous(memory_format=torch.channels_last)
        if add_to is not None:
            _check_place("add_to", add_to, (count, self._results, rows, columns))
            if self.filled != self._results:
                return add_to.add_(self(x, padding, None, threads))
        if out is not None:
            _check_place("out", out, (count, self.filled, rows, columns))
        result = add_to if add_to is not None else out
        if result is None:
            result = torch.empty((count, self.filled, rows, columns), memory_format=torch.channels_last)
        tile = kernels.tile_of(self._side, rows, columns)
        tiles = -(-rows // tile) * -(-columns // tile)
        share = -(-tiles // (self._tall * threads)) * self._tall
        run = partial(self._run, tile, add_to is not None, padding)
        work = [
            partial(run, x[index], result[index], first, min(tiles, first + share))
            for index in range(count)
            for first in range(0, tiles, share)
        ]
        waiting = [_pool(threads).submit(part) for part in work[1:]] if threads > 1 else []
        for part in work[: len(work) - len(waiting)]:
            part()
        for item in waiting:
            item.result()
        return result if add_to is not None or self.filled == self._results else result[:, : self._results]

    def _run(
        self, tile: transforms.Tile, add: bool, padding: tuple[int, int], x: Tensor, y: Tensor, first: int, stop: int
    ) -> None:
        """Compute some tiles of one image."""
        channels, results, depth, side, together = self._channels, self.filled, self._depth, self._side, self._together
        reads = transforms.window(tile, side)
        most = -(-kernels.tiles_at_once(channels, results, reads) // self._tall) * self._tall
        tables = kernels.room(reads, most, depth), kernels.room(reads, most, results)
        zeros, nowhere, v, m = _workspace(max(channels, results), *tables)
        kernels.run(tile)(
            x.data_ptr(), x.stride(1), channels, x.shape[1], x.shape[2], *padding,
            self._weights(tile).data_ptr(), self._bias.data_ptr(), self._slopes.data_ptr(),
            y.data_ptr(), y.stride(1), results, y.shape[1], y.shape[2],
            v, m, most, self._tall, depth, reads**2, zeros, nowhere, first, stop,
            kernels.transform(tile, side).address, kernels.multiply(reads, depth, together, False).address,
            kernels.multiply(reads, depth, together, True).address if depth < channels else 0,
            kernels.finish(tile, side, self._activation, add).address,
        )  # fmt: skip

    def _weights(self, tile: transforms.Tile) -> Tensor:
        """The transformed weights for a size of tiles, made when it is first met."""
        known = self._transformed.get(tile)
        if known is None:
            g = torch.tensor(transforms.weights(tile, self._side), dtype=torch.float64)
            products = torch.einsum("ia,kcab,jb->ijck", g, self._weight.double(), g).float()
            shape = len(g) ** 2, -1, self._depth, self.filled // self._together, self._together
            parts = self._fill(products).reshape(shape).permute(1, 0, 3, 2, 4).contiguous()
            known = self._transformed.setdefault(tile, parts)  # of several threads, the first one's
        return known

    def _fill(self, values: Tensor) -> Tensor:
        """Zeros behind the output channels, which are the last dimension, up to the end of a register."""
        return functional.pad(values, (0, self.filled - self._results)).contiguous()


def _check_values(name: str, values: Tensor) -> None:
    if values.dtype != torch.float32 or values.device.type != "cpu":
        raise TypeError(f"{name} must be float32 on the CPU, not {values.dtype} on {values.device}")


def _check_place(name: str, values: Tensor, shape: tuple[int, ...]) -> None:
    _check_values(name, values)
    if values.shape != shape or not _is_dense(values):
        raise ValueError(f"{name} must be {shape} and channels_last, not {tuple(values.shape)}")


def _is_dense(x: Tensor) -> bool:
    """Whether the pixels of each row lie side by side, with all channels of each together."""
    _, channels, height, width = x.shape
    rows = x.stride(2) >= channels * width or height == 1
    return x.stride(1) == 1 and (x.stride(3) == channels or width == 1) and rows


def _workspace(widest: int, v: int, m: int) -> tuple[int, int, int, int]:
    """Addresses of zeros, of room for results that no one wants, and of the two tables; of this thread alone.

    Args:
        widest: number of channels, of the input or the output.
        v: float32 of the first table.
        m: float32 of the second one.
    """
    room: Tensor | None = getattr(_room, "values", None)
    if room is None or room.numel() < 2 * widest + v + m:
        room = _room.values = torch.zeros(2 * widest + v + m)  # zeros, because strange bits would slow arithmetic down
    start = room.data_ptr()
    room[:widest].zero_()
    table = start + 2 * widest * _FLOAT_BYTES
    return start, start + widest * _FLOAT_BYTES, table, table + v * _FLOAT_BYTES


def _pool(threads: int) -> ThreadPoolExecutor:
    with _lock:
        if threads not in _pools:
            _pools[threads] = ThreadPoolExecutor(threads, thread_name_prefix="gankit-winograd")
        return _pools[threads]
