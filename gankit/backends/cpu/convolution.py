"""Streaming stages of convolutions, which keep the rows that the next strip needs again."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor

from gankit.backends.cpu.fused import FusedConv
from gankit.backends.cpu.stage import Room, Stage
from gankit.backends.cpu.winograd import PIECE_ROWS, WinogradConv

Convolution = FusedConv | WinogradConv
_APART = 32  # float32: two cache lines


class ConvStage(Stage):
    """A zero-padded, stride-1 convolution with the activation behind it.

    Its window holds the last 2·reach rows of the strip before, the rows of this strip, and room for zeros below the
    image. The stage before writes into it where it can, and so does this stage into the next one's.
    """

    def __init__(self, conv: Convolution, strip_bytes: int) -> None:
        super().__init__()
        self._conv, self._bytes = conv, strip_bytes
        self._reach = conv.kernel[0] // 2
        self._window = Room(_APART if isinstance(conv, WinogradConv) else 0)  # oneDNN would copy such rows
        self._result = Room()
        self.reset()

    def reset(self) -> None:
        """See :meth:`Stage.reset`."""
        self._held: int | None = None  # rows of the strip before, or of zeros
        self._offered: Tensor | None = None
        self._window.clear()
        self._result.clear()

    def place(self, port: int, channels: int, rows: int, width: int, dtype: torch.dtype) -> Tensor | None:
        """See :meth:`Stage.place`."""
        if not self._reach:
            return None
        above = 2 * self._reach
        window = self._window.get(channels, above + rows + self._reach, width, dtype, kept=above)
        self._offered = window[:, :, above : above + rows]
        return self._offered

    def push(self, port: int, rows: Tensor, row: int, last: bool) -> None:
        """See :meth:`Stage.push`."""
        if not self._reach:
            self._convolve(rows, row, last)
            return
        _, channels, count, width = rows.shape
        if self._offered is None or self._offered.data_ptr() != rows.data_ptr():
            self.place(port, channels, count, width, rows.dtype)
            assert self._offered is not None
            self._offered.copy_(rows)
        self._offered = None
        reach, above = self._reach, 2 * self._reach
        window = self._window.get(channels, above + count + reach, width, rows.dtype)
        if self._held is None:
            self._held = reach if row == 0 else 0
            window[:, :, above - self._held : above].zero_()
        if last:
            window[:, :, above + count :].zero_()
        held = self._held
        self._convolve(window[:, :, above - held : above + count + (reach if last else 0)], row - held + reach, last)
        if not last:
            self._held = min(above, held + count)  # all of them where fewer have come yet
            kept = window[:, :, above + count - self._held : above + count]
            window[:, :, above - self._held : above].copy_(kept.clone() if count < self._held else kept)

    def _convolve(self, rows: Tensor, row: int, last: bool) -> None:
        """Hand on the results from a row on, which see all of these rows, in pieces of a bounded size."""
        results = rows.shape[2] - 2 * self._reach
        if results <= 0:
            if last:
                raise AssertionError("the last rows of an image always complete an output row")
            return
        row_bytes = max(self._conv.out_channels, self._conv.in_channels) * rows.shape[3] * rows.element_size()
        for start, stop in itertools.pairwise(self._cuts(results, self._bytes // row_bytes)):
            made = self._run(rows[:, :, start : stop + 2 * self._reach])
            self.emit(made, row + start, last and stop == results)

    def _cuts(self, results: int, most: int) -> list[int]:
        """Where the pieces begin and end that have so many rows, or the fewest that are worth a call."""
        if isinstance(self._conv, WinogradConv):
            return [*range(0, results, max(1, most // PIECE_ROWS) * PIECE_ROWS), results]
        count = -(-results // max(4, most))
        return [results * index // count for index in range(count + 1)]

    def _run(self, rows: Tensor) -> Tensor:
        padding = (0, self._conv.kernel[1] // 2)
        if not isinstance(self._conv, WinogradConv):
            return self._conv(rows, padding)  # oneDNN takes no place for its result
        size = rows.shape[2] - 2 * self._reach, rows.shape[3], rows.dtype
        place = self.target(self._conv.out_channels, *size) if self._conv.filled == self._conv.out_channels else None
        return self._conv(rows, padding, out=self._result.get(self._conv.filled, *size) if place is None else place)


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
        self._hidden, self._kept = Room(), [Room() for _ in blocks]
        self._first = 0
        self.reset()

    def reset(self) -> None:
        """See :meth:`Stage.reset`."""
        self._held = [0] * len(self._blocks)  # rows that each level has kept
        self._known: list[int] = []  # one behind the last row known at each level
        self._offered: Tensor | None = None

    def place(self, port: int, channels: int, rows: int, width: int, dtype: torch.dtype) -> Tensor | None:
        """See :meth:`Stage.place`."""
        if not self._known:
            return None
        row = self._known[0]
        base = self._base(row)
        window = self._space((1, channels, row + rows + self._margin - base, width), dtype)
        self._offered = window[:, :, row - base : row - base + rows]
        return self._offered

    def _base(self, row: int) -> int:
        """Number of the row at the window's top when rows from ``row`` on come."""
        return max(self._first, row - sum(self._lags) - 2 * self._margin) - self._margin

    def push(self, port: int, rows: Tensor, row: int, last: bool) -> None:
        """See :meth:`Stage.push`."""
        if not self._known:
            self._first = row
            self._known = [row + lag if row else 0 for lag in itertools.accumulate(self._lags, initial=0)]
        base, end = self._base(row), row + rows.shape[2]
        window = self._space((1, rows.shape[1], end + self._margin - base, rows.shape[3]), rows.dtype)
        if self._offered is None or self._offered.data_ptr() != rows.data_ptr():
            window[:, :, row - base : end - base].copy_(rows)
        self._offered = None
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

    def _space(self, shape: tuple[int, int, int, int], dtype: torch.dtype) -> Tensor:
        window = self._window
        if window is None or window.shape[3] != shape[3] or window.shape[2] < shape[2] or window.dtype != dtype:
            self._window = window = torch.empty(shape, dtype=dtype, memory_format=torch.channels_last)
        return window[:, :, : shape[2]]

    def _block(self, level: int, window: Tensor, base: int, last: bool) -> None:
        first, second = self._blocks[level]
        lag, reach2 = self._lags[level], second.kernel[0] // 2
        known = self._known[level]
        start, stop = self._known[level + 1], known if last else max(self._known[level + 1], known - lag)
        _, channels, _, width = window.shape
        if held := self._held[level]:  # rows of this level that the strip before ended with
            before = max(self._first, start - lag) - base
            window[:, :, before : before + held].copy_(self._kept[level].get(channels, held, width, window.dtype))
        if not last:
            keep = max(self._first, stop - lag)
            self._held[level] = held = known - keep
            self._kept[level].get(channels, held, width, window.dtype).copy_(window[:, :, keep - base : known - base])
        if stop <= start:
            return
        outer = window[:, :, start - lag - base : stop + lag - base]
        hidden = self._first_of(first, outer)  # rows start - reach2 to stop + reach2
        if start < reach2:
            hidden[:, :, : reach2 - start].zero_()
        if last:
            hidden[:, :, hidden.shape[2] - reach2 :].zero_()
        second(hidden, (0, second.kernel[1] // 2), add_to=window[:, :, start - base : stop - base])
        self._known[level + 1] = stop

    def _first_of(self, conv: Convolution, rows: Tensor) -> Tensor:
        padding = (0, conv.kernel[1] // 2)
        if not isinstance(conv, WinogradConv) or conv.filled != conv.out_channels:
            return conv(rows, padding)
        results = rows.shape[2] - 2 * (conv.kernel[0] // 2)
        return conv(rows, padding, out=self._hidden.get(conv.out_channels, results, rows.shape[3], rows.dtype))
