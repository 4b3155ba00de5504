"""Streaming stages that change the size of the rows and need more than one of them."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from gankit.backends.cpu.stage import Stage


class UnshuffleStage(Stage):
    """PixelUnshuffle: waits until a whole row of folded pixels has come."""

    def __init__(self, factor: int) -> None:
        super().__init__()
        self._factor = factor
        self.reset()

    def reset(self) -> None:
        """See :meth:`Stage.reset`."""
        self._kept: Tensor | None = None

    def push(self, port: int, rows: Tensor, row: int, last: bool) -> None:
        """See :meth:`Stage.push`; an image whose height is no multiple ends in torch's own error."""
        window = rows if self._kept is None else torch.cat([self._kept, rows], dim=2)
        row -= window.shape[2] - rows.shape[2]
        if extra := -row % self._factor:  # of a folded row that begins above the part
            window, row = window[:, :, extra:], row + extra
        height = window.shape[2]
        ready = height if last else height // self._factor * self._factor
        self._kept = None if ready == height else window[:, :, ready:].clone(memory_format=torch.channels_last)
        if ready:
            folded = F.pixel_unshuffle(window[:, :, :ready], self._factor)
            self.emit(folded.contiguous(memory_format=torch.channels_last), row // self._factor, last)


class BilinearStage(Stage):
    """Bilinear enlargement: a row needs the one above and the one below, which at the ends are itself."""

    def __init__(self, enlarge: Callable[[Tensor], Tensor], scale: int) -> None:
        super().__init__()
        self._enlarge, self._scale = enlarge, scale
        self.reset()

    def reset(self) -> None:
        """See :meth:`Stage.reset`."""
        self._kept: Tensor | None = None  # the last row, which waits for the next, and the one above it if there is
        self._above = 0  # how many rows of the kept ones are done

    def push(self, port: int, rows: Tensor, row: int, last: bool) -> None:
        """See :meth:`Stage.push`."""
        window = rows if self._kept is None else torch.cat([self._kept, rows], dim=2)
        start, stop = self._above, window.shape[2] - (not last)
        if self._kept is None and row:
            start = 1  # the row above the first one is not known
        row -= window.shape[2] - rows.shape[2]
        if not last:
            keep = max(0, stop - 1)
            self._kept = window[:, :, keep:].clone(memory_format=torch.channels_last)
            self._above = max(start, stop) - keep
        if stop > start:
            enlarged = self._enlarge(window)
            self.emit(enlarged[:, :, start * self._scale : stop * self._scale], (row + start) * self._scale, last)
