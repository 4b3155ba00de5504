"""Max pooling that keeps the size, in strips."""

from __future__ import annotations

import functools
import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gankit.backends.cpu.stage import NotStreamableError, Stage, stacked


class MaxPoolStage(Stage):
    """The largest of the k×k pixels around each one; it keeps the last k - 1 rows that it has seen.

    Args:
        pool: of an odd size, stride 1, and padded so that the image keeps its size.

    Raises:
        NotStreamableError: it is another.
    """

    def __init__(self, pool: nn.MaxPool2d) -> None:
        super().__init__()
        size = pool.kernel_size
        same = isinstance(size, int) and size % 2 == 1 and pool.padding == size // 2
        if not (same and pool.stride == 1 and pool.dilation == 1 and not pool.ceil_mode):
            raise NotStreamableError(f"{pool} does not run in strips")
        assert isinstance(size, int)
        self._size, self._reach = size, size // 2
        self.reset()

    def reset(self) -> None:
        """See :meth:`Stage.reset`."""
        self._kept: Tensor | None = None
        self._first = self._next = 0

    def push(self, port: int, rows: Tensor, row: int, last: bool) -> None:
        """See :meth:`Stage.push`."""
        reach = self._reach
        if self._kept is None:
            self._first, self._next = row, row + reach if row else 0  # above row 0 there is nothing to wait for
            known = rows
        else:
            known = stacked([self._kept, rows])
        end = row + rows.shape[2]
        start, stop = self._next, end if last else end - reach
        if start < stop:
            low = max(self._first, start - reach)
            seen = known[:, :, low - self._first :]
            self._next = stop
            self.emit(largest(seen, self._size)[:, :, start - low : stop - low], start, last)
        first = max(self._first, self._next - reach)
        self._kept = known[:, :, first - self._first :].clone(memory_format=torch.channels_last)
        self._first = first


def largest(x: Tensor, size: int) -> Tensor:
    """The largest value of the size×size pixels around each pixel: down, then across.

    torch's own takes the largest of a few channels one by one, and finds out where it was as well.

    Args:
        x: (N, C, H, W).
        size: odd.

    Returns:
        The same shape.
    """
    for axis, sides in ((2, (0, 0, size // 2, size // 2)), (3, (size // 2, size // 2))):
        length, padded = x.shape[axis], F.pad(x, sides, value=-math.inf)
        x = functools.reduce(torch.maximum, (padded.narrow(axis, start, length) for start in range(size)))
    return x.contiguous(memory_format=torch.channels_last)
