"""Streaming stages of convolutions, which keep the rows that the next strip needs again."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor

from gankit.backends.cpu.fused import FusedConv
from gankit.backends.cpu.stage import Stage, stacked
from gankit.backends.cpu.winograd import WinogradConv

Convolution = FusedConv | WinogradConv


class ConvStage(Stage):
    """A zero-padded, stride-1 convolution with the activation behind it."""

    def __init__(self, conv: Convolution, strip_bytes: int) -> None:
        super().__init__()
        self._conv, self._bytes = conv, strip_bytes
        self._reach = conv.kernel[0] // 2
        self._kept: Tensor | None = None

    def reset(self) -> None:
        """See :meth:`Stage.reset`."""
        self._kept = None

    def push(self, port: int, rows: Tensor, row: int, last: bool) -> None:
        """See :meth:`Stage.push`."""
        row_bytes = max(self._conv.out_channels, self._conv.in_channels) * rows.shape[3] * rows.element_size()
        piece = max(4, self._bytes // row_bytes)
        count = max(1, -(-rows.shape[2] // piece))
        pieces = rows.tensor_split(count, dim=2) if count > 1 else (rows,)
        for index, part in enumerate(pieces):
            self._push(part, row, last and index == len(pieces) - 1)
            row += part.shape[2]

    def _push(self, rows: Tensor, row: int, last: bool) -> None:
        reach = self._reach
        parts = []
        if self._kept is not None:
            parts.append(self._kept)
        elif reach and row == 0:
            parts.append(_zeros(rows, reach))
        parts.append(rows)
        if last and reach:
            parts.append(_zeros(rows, reach))
        window = stacked(parts)
        first = row + rows.shape[2] + (reach if last else 0) - window.shape[2] + reach  # row of the result
        if reach and not last:
            # 2·reach rows, or all of them where fewer have come yet
            self._kept = window[:, :, max(0, window.shape[2] - 2 * reach) :].clone(memory_format=torch.channels_last)
        if window.shape[2] > 2 * reach:
            self.emit(self._conv(window, (0, self._conv.kernel[1] // 2)), first, last)
        elif last:
            raise AssertionError("the last rows of an image always complete an output row")


class ResidualChain(Stage):
    """Consecutive residual blocks x + conv2(act(conv1(x))), updated in place in one sliding window.

    A block's output row needs its input two (in general reach1 + reach2) rows on, so every block lags its
    predecessor by that. The window holds the rows of all levels at once: block i + 1 begins that many rows above block
    i, where the four (2·lag) rows that it kept from the strip before are put back first. Nothing but these is copied;
    the second convolution adds into the window. Its first one computes 2·reach2 rows again per strip (2 of 64).

    Rows of zeros above and below the image are part of the window, so that no convolution pads rows itself.
    """

    def __init__(self, blocks: list[tuple[Convolution, Convolution]]) -> None:
        super().__init__()
        self._blocks = blocks
        self._lags = [first.kernel[0] // 2 + second.kernel[0] // 2 for first, second in blocks]
        self._margin = max(self._lags)
        self._window: Tensor | None = None
        self._first = 0
        self.reset()

    def reset(self) -> None:
        """See :meth:`Stage.reset`."""
        self._kept: list[Tensor | None] = [None] * len(self._blocks)
        self._known: list[int] = []  # one behind the last row known at each level

    def push(self, port: int, rows: Tensor, row: int, last: bool) -> None:
        """See :meth:`Stage.push`."""
        if not self._known:
            self._first = row
            self._known = [row + lag if row else 0 for lag in itertools.accumulate(self._lags, initial=0)]
        base = max(self._first, row - sum(self._lags) - 2 * self._margin) - self._margin  # row at the window's top
        end = row + rows.shape[2]
        window = self._space(rows, end + self._margin - base)
        window[:, :, row - base : end - base].copy_(rows)
        if base < 0:
            window[:, :, :-base].zero_()
        if last:
            window[:, :, end - base :].zero_()
        self._known[0] = end
        start = self._known[-1]
        for level in range(len(self._blocks)):
            self._block(level, window, base, last)
        if (stop := self._known[-1]) > start:
            self.emit(window[:, :, start - base : stop - base], start, last)

    def _space(self, rows: Tensor, count: int) -> Tensor:
        shape = (1, rows.shape[1], count, rows.shape[3])
        window = self._window
        if window is None or window.shape[3] != shape[3] or window.shape[2] < count or window.dtype != rows.dtype:
            window = torch.empty(shape, dtype=rows.dtype, memory_format=torch.channels_last)
            self._window = window
        return window[:, :, :count]

    def _block(self, level: int, window: Tensor, base: int, last: bool) -> None:
        first, second = self._blocks[level]
        lag, reach2 = self._lags[level], second.kernel[0] // 2
        known = self._known[level]
        start, stop = self._known[level + 1], known if last else max(self._known[level + 1], known - lag)
        kept = self._kept[level]
        if kept is not None:  # rows of this level that the strip before ended with
            before = max(self._first, start - lag)
            window[:, :, before - base : before - base + kept.shape[2]].copy_(kept)
        if not last:
            keep = max(self._first, stop - lag)
            self._kept[level] = window[:, :, keep - base : known - base].clone(memory_format=torch.channels_last)
        if stop <= start:
            return
        outer = window[:, :, start - lag - base : stop + lag - base]
        hidden = first(outer, (0, first.kernel[1] // 2))  # rows start - reach2 to stop + reach2
        if start < reach2:
            hidden[:, :, : reach2 - start].zero_()
        if last:
            hidden[:, :, hidden.shape[2] - reach2 :].zero_()
        second(hidden, (0, second.kernel[1] // 2), add_to=window[:, :, start - base : stop - base])
        self._known[level + 1] = stop


def _zeros(like: Tensor, rows: int) -> Tensor:
    shape = (1, like.shape[1], rows, like.shape[3])
    return torch.zeros(shape, dtype=like.dtype).contiguous(memory_format=torch.channels_last)
