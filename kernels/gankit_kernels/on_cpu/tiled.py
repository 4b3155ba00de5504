"""What the convolutions of Winograd's algorithm share: their weights, their tiles, and the threads that share them."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional

from gankit_kernels.on_cpu import llvm, tiling, transforms
from gankit_kernels.on_cpu import winograd as kernels

_FLOAT_BYTES = 4
_CACHED = 1 << 20  # float32 of weights that stay in a core's cache, or nearly so
_room = threading.local()
_lock = threading.Lock()
_pools: dict[int, ThreadPoolExecutor] = {}


class Tiled(ABC):
    """What all convolutions here share. Several threads may call one at once.

    Args:
        shape: C' and C of each part of the weights, and their rows and columns.
        bias: (C',), or ``None``.
        slopes: (C',), or ``None``.
        step: see :func:`gankit_kernels.on_cpu.winograd.run`.

    Attributes:
        channels: number of input channels.
        results: number of output channels.
        filled: number of output channels with those that fill the last register.
        side: rows and columns of the kernel.
    """

    def __init__(
        self, shape: tuple[int, int, int], bias: Tensor | None, slopes: Tensor | None, step: kernels.Step
    ) -> None:
        self.results, self.channels, self.side = shape
        if self.channels % llvm.lanes():
            raise ValueError(f"the number of input channels must be a multiple of {llvm.lanes()}, not {self.channels}")
        for name, values in (("bias", bias), ("slopes", slopes)):
            if values is not None and values.shape != (self.results,):
                raise ValueError(f"{name} must be ({self.results},), not {tuple(values.shape)}")
        self.filled = -(-self.results // llvm.lanes()) * llvm.lanes()
        self._step = step
        zeros = torch.zeros(self.results)
        self._bias = self._fill(zeros if bias is None else bias.detach().float())
        self._slopes = self._fill(zeros if slopes is None else slopes.detach().float())
        self._activation: kernels.Activation = "none" if slopes is None else "slope" if bool(slopes.any()) else "relu"
        self._depth = tiling.channels_at_once(self.channels, self.filled, self.side)
        self._together = tiling.panel(self.filled)
        self._tall = tiling.rows_of(self._together)
        self._transformed: dict[transforms.Tile, Tensor] = {}

    @abstractmethod
    def parts(self) -> list[Tensor]:
        """(C', C, s, s) weights: of all channels, or of four parts of the input or of the result."""

    def entered(self, x: Tensor) -> Tensor:
        """The input as the kernels read it, checked."""
        # The kernels take addresses, so that nothing else would notice.
        check_values("x", x)
        if x.ndim != 4 or x.shape[1] != self.channels:
            raise ValueError(f"x must be (N, {self.channels}, H, W), not {tuple(x.shape)}")
        return x if _is_dense(x) else x.contiguous(memory_format=torch.channels_last)

    def place(self, x: Tensor, size: tuple[int, int], out: Tensor | None) -> Tensor:
        """Room for the result."""
        shape = len(x), self.filled, *size
        if out is None:
            return torch.empty(shape, memory_format=torch.channels_last)
        check_place("out", out, shape)
        return out

    def wanted(self, result: Tensor) -> Tensor:
        """The channels that are not there to fill a register."""
        return result if self.filled == self.results else result[:, : self.results]

    def compute(
        self, x: Tensor, y: Tensor, size: tuple[int, int], padding: tuple[int, int], add: bool, threads: int
    ) -> None:
        """Compute all tiles.

        Args:
            x: the result of :meth:`entered`.
            y: (N, filled, H', W'), channels_last.
            size: rows and columns that the tiles cover.
            padding: zeros above and to the left of ``x``.
            add: whether to add to ``y``.
            threads: number of threads that share the tiles.
        """
        tile = tiling.tile_of(self.side, len(x), *size)
        across = -(-size[1] // tile)
        each = -(-size[0] // tile) * across
        run = partial(self._run, tile, add, padding, across, each, x, y)
        whole = len(x) * each
        share = max(1, -(-whole // (self._tall * threads))) * self._tall
        work = [partial(run, first, min(whole, first + share)) for first in range(0, whole, share)]
        shared(threads, work)

    def _run(
        self,
        tile: transforms.Tile,
        add: bool,
        padding: tuple[int, int],
        across: int,
        each: int,
        x: Tensor,
        y: Tensor,
        first: int,
        stop: int,
    ) -> None:
        """Compute some tiles, ``each`` of an image in rows of ``across``."""
        channels, results, depth, side, together = self.channels, self.filled, self._depth, self.side, self._together
        reads = transforms.window(tile, side)
        most = -(-tiling.tiles_at_once(channels, results, reads) // self._tall) * self._tall
        tables = tiling.room(reads, most, depth), tiling.room(reads, most, results)
        zeros, nowhere, v, m = _workspace(max(channels, results), *tables)
        weights = self._weights(tile)
        fetch = weights.numel() > _CACHED
        more = depth < channels or self._step == "two"
        kernels.run(tile, self._step)(
            x.data_ptr(), x.stride(2), channels, x.stride(0), channels, x.shape[2], x.shape[3], *padding,
            weights.data_ptr(), self._bias.data_ptr(), self._slopes.data_ptr(),
            y.data_ptr(), y.stride(2), results, y.stride(0), results, y.shape[2], y.shape[3], across,
            each, v, m, most, self._tall, depth, reads**2, zeros, nowhere, first, stop,
            kernels.transform(tile, side).address, kernels.multiply(reads, depth, together, False, fetch).address,
            kernels.multiply(reads, depth, together, True, fetch).address if more else 0,
            kernels.finish(tile, side, self._activation, add).address,
        )  # fmt: skip

    def _weights(self, tile: transforms.Tile) -> Tensor:
        """The transformed weights for a size of tiles, made when it is first met."""
        known = self._transformed.get(tile)
        if known is None:
            g = torch.tensor(transforms.weights(tile, self.side), dtype=torch.float64)
            shape = len(g) ** 2, -1, self._depth, self.filled // self._together, self._together
            parts = []
            for part in self.parts():
                products = torch.einsum("ia,kcab,jb->ijck", g, part.double(), g).float()
                parts.append(self._fill(products).reshape(shape).permute(1, 0, 3, 2, 4))
            known = self._transformed.setdefault(tile, torch.stack(parts))  # of several threads, the first one's
        return known

    def _fill(self, values: Tensor) -> Tensor:
        """Zeros behind the output channels, which are the last dimension, up to the end of a register."""
        return functional.pad(values, (0, self.filled - self.results)).contiguous()


def check_values(name: str, values: Tensor) -> None:
    """Check that a tensor is float32 on the CPU, or raise TypeError that calls it by a name."""
    if values.dtype != torch.float32 or values.device.type != "cpu":
        raise TypeError(f"{name} must be float32 on the CPU, not {values.dtype} on {values.device}")


def check_place(name: str, values: Tensor, shape: tuple[int, ...]) -> None:
    """Check that results of a shape may be written into a tensor, or raise ValueError or TypeError."""
    check_values(name, values)
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


def shared(threads: int, work: Sequence[Callable[[], None]]) -> None:
    """Do some things at the same time, the first of them in this thread.

    Args:
        threads: at most so many things.
        work: the things, if any.
    """
    waiting = [_pool(threads).submit(part) for part in work[1:]]
    for part in work[:1]:
        part()
    for item in waiting:
        item.result()


def _pool(threads: int) -> ThreadPoolExecutor:
    with _lock:
        if threads not in _pools:
            _pools[threads] = ThreadPoolExecutor(threads, thread_name_prefix="gankit-winograd")
        return _pools[threads]
