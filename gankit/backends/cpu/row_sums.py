"""Convolutions to few channels, as one convolution for each row of the kernel and a sum of rows."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from gankit.backends.cpu.fused import FusedConv
from gankit.backends.cpu.stage import Stage

_FEW, _MOST = 16, 96  # channels: of the result, and of all rows of the kernel together


def by_rows(conv: nn.Conv2d) -> bool:
    """Whether a convolution runs faster by the rows of its kernel.

    A processor multiplies whole vectors of output channels, 16 to 48 at a time, so that 3 or 12 of them leave most of
    its units idle: 256 to 12 channels with 5×5 ran at half the rate of 256 to 60 with 1×5, and 64 to 3 with 3×3 at an
    eighth of the best. In narrow precisions each row would be rounded before the sum.
    """
    rows, channels = conv.kernel_size[0], conv.out_channels
    return rows > 1 and channels <= _FEW and rows * channels <= _MOST and conv.weight.dtype == torch.float32


def row_convolution(conv: nn.Conv2d) -> FusedConv:
    """The convolution with each row of its kernel as channels of their own, those of the first row first."""
    rows, columns = conv.kernel_size
    channels = rows * conv.out_channels
    wide = nn.Conv2d(conv.in_channels, channels, (1, columns), bias=False, device="meta")
    weight = conv.weight.detach().permute(2, 0, 1, 3).reshape(channels, conv.in_channels, 1, columns)
    wide.weight = nn.Parameter(weight.contiguous(memory_format=torch.channels_last), requires_grad=False)
    return FusedConv(wide)


class RowSumStage(Stage):
    """A zero-padded, stride-1 convolution to few channels, summed row by row.

    Every row of the input adds to the rows of the result that see it. A row of the result is handed on when the last
    row that it sees has come; nothing of the input is kept.

    Args:
        conv: the convolution, for its shape and its bias.
        wide: :func:`row_convolution` of it.
    """

    def __init__(self, conv: nn.Conv2d, wide: FusedConv) -> None:
        super().__init__()
        self._wide, self._channels = wide, conv.out_channels
        self._rows, self._side = conv.kernel_size[0], conv.kernel_size[1] // 2
        bias = conv.bias
        self._bias = None if bias is None else bias.detach().view(1, -1, 1, 1)
        self.reset()

    def reset(self) -> None:
        """See :meth:`Stage.reset`."""
        self._sums: Tensor | None = None  # of the rows of the result that are not complete
        self._first = 0  # the first row of the result that sees no unknown row

    def push(self, port: int, rows: Tensor, row: int, last: bool) -> None:
        """See :meth:`Stage.push`."""
        reach, count = self._rows // 2, rows.shape[2]
        products = self._wide(rows, (0, self._side))
        shape = (1, self._channels, count + 2 * reach, rows.shape[3])
        sums = torch.empty(shape, dtype=rows.dtype, memory_format=torch.channels_last)
        if self._sums is None:
            sums.zero_()
            self._first = row + reach if row else 0
        else:
            sums[:, :, : 2 * reach].copy_(self._sums)
            sums[:, :, 2 * reach :].zero_()
        for index, part in enumerate(products.split(self._channels, dim=1)):
            start = 2 * reach - index
            sums[:, :, start : start + count].add_(part)
        if not last:
            self._sums = sums[:, :, count:].clone(memory_format=torch.channels_last)
        skipped = max(0, self._first - (row - reach))
        complete = sums[:, :, skipped : count + (reach if last else 0)]
        if complete.shape[2]:
            self.emit(complete if self._bias is None else complete.add_(self._bias), row - reach + skipped, last)
