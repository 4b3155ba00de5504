"""What a streamed network is made of: stages that take rows and push rows on."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


class NotStreamableError(ValueError):
    """The network has a layer that strips cannot run."""


class Room:
    """Memory for rows (1, C, rows, W) that is kept from strip to strip, and grows where a strip has more rows.

    Args:
        apart: values between two rows. Where the pixels of a row fill whole pages, those below one another compete for
            the same few places of a cache.
    """

    def __init__(self, apart: int = 0) -> None:
        self._apart = apart
        self._values: Tensor | None = None

    def clear(self) -> None:
        """Give it back."""
        self._values = None

    def get(self, channels: int, rows: int, width: int, dtype: torch.dtype, kept: int = 0) -> Tensor:
        """Return some rows; the first ``kept`` of them hold what they held before."""
        before = self._values
        fits = before is not None and (before.shape[1], before.shape[3], before.dtype) == (channels, width, dtype)
        if before is None or not fits or before.shape[2] < rows:
            row = channels * width + self._apart
            made = torch.empty(rows * row, dtype=dtype).as_strided(
                (1, channels, rows, width), (rows * row, 1, row, channels)
            )
            if before is not None and fits and kept:
                made[:, :, :kept].copy_(before[:, :, :kept])
            self._values = before = made
        return before[:, :, :rows]


class Stage:
    """Takes rows (1, C, rows, W) at its ports and pushes rows on.

    Rows are counted from the top of the whole image, in the resolution of their stage. Above row 0 there is nothing,
    and convolutions see zeros. A part of an image may begin further down, and its first rows may have any number then:
    what lies above them is not known, so that every layer begins where it knows all that it needs.

    Attributes:
        consumers: (stage, port) pairs that get the result.
    """

    def __init__(self) -> None:
        self.consumers: list[tuple[Stage, int]] = []

    def reset(self) -> None:
        """Forget the rows of the image before."""

    def push(self, port: int, rows: Tensor, row: int, last: bool) -> None:
        """Take the next rows at a port.

        Args:
            port: index of the input.
            rows: (1, C, rows, W), valid during the call only.
            row: number of the first of them.
            last: whether they end the image.
        """
        raise NotImplementedError

    def place(self, port: int, channels: int, rows: int, width: int, dtype: torch.dtype) -> Tensor | None:
        """Return where this stage would copy the next rows, so that they may be written there at once.

        Returns:
            (1, channels, rows, width) to be filled and pushed at once; ``None`` if their place does not matter.
        """
        return None

    def target(self, channels: int, rows: int, width: int, dtype: torch.dtype) -> Tensor | None:
        """Return where the only consumer wants the next rows."""
        if len(self.consumers) != 1:
            return None
        stage, port = self.consumers[0]
        return stage.place(port, channels, rows, width, dtype)

    def emit(self, rows: Tensor, row: int, last: bool) -> None:
        """Hand rows on."""
        for stage, port in self.consumers:
            stage.push(port, rows, row, last)


class PointwiseStage(Stage):
    """A function of rows that need no neighbours: an activation, a PixelShuffle, nearest-neighbour enlargement."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self._function = function

    def push(self, port: int, rows: Tensor, row: int, last: bool) -> None:
        """See :meth:`Stage.push`."""
        result = self._function(rows)
        self.emit(result, row * (result.shape[2] // rows.shape[2]), last)


class JoinStage(Stage):
    """Adds or concatenates its inputs, which arrive with different delays, and from different rows on."""

    def __init__(self, ports: int, join: Callable[[list[Tensor]], Tensor]) -> None:
        super().__init__()
        self._ports, self._join = ports, join
        self.reset()

    def reset(self) -> None:
        """See :meth:`Stage.reset`."""
        self._queues: list[list[Tensor]] = [[] for _ in range(self._ports)]
        self._rows: list[int | None] = [None] * self._ports  # number of the next row, which waits or is to come
        self._ended = [False] * self._ports

    def push(self, port: int, rows: Tensor, row: int, last: bool) -> None:
        """See :meth:`Stage.push`."""
        waiting = self._queues[port]
        waiting.append(rows)
        if self._rows[port] is None:
            self._rows[port] = row
        self._ended[port] |= last
        begun = [first for first in self._rows if first is not None]
        if len(begun) == self._ports:
            first = max(begun)
            for index, number in enumerate(begun):
                self._drop(index, first - number)
            if ready := min(sum(item.shape[2] for item in queue) for queue in self._queues):
                inputs = [stacked(self._take(index, ready)) for index in range(self._ports)]
                result = self._joined(inputs)
                self.emit(result, first * (result.shape[2] // ready), all(self._ended) and not any(self._queues))
        if waiting:  # with the end of these rows
            waiting[-1] = waiting[-1].clone(memory_format=torch.channels_last)

    def _joined(self, inputs: list[Tensor]) -> Tensor:
        return self._join(inputs)

    def _drop(self, port: int, count: int) -> None:
        self._take(port, min(count, sum(item.shape[2] for item in self._queues[port])))

    def _take(self, port: int, count: int) -> list[Tensor]:
        queue, parts = self._queues[port], []
        number = self._rows[port]
        self._rows[port] = count + (0 if number is None else number)
        while count:
            head = queue[0]
            if head.shape[2] <= count:
                parts.append(queue.pop(0))
            else:
                parts.append(head[:, :, :count])
                queue[0] = head[:, :, count:]
            count -= parts[-1].shape[2]
        return parts


class AddStage(JoinStage):
    """Adds two inputs, where the next stage wants the sum."""

    def __init__(self) -> None:
        self._sum = Room()
        super().__init__(2, lambda inputs: inputs[0] + inputs[1])

    def reset(self) -> None:
        """See :meth:`Stage.reset`."""
        super().reset()
        self._sum.clear()

    def _joined(self, inputs: list[Tensor]) -> Tensor:
        one, other = inputs
        if one.shape != other.shape or one.dtype != other.dtype:
            return super()._joined(inputs)
        size = one.shape[1], one.shape[2], one.shape[3], one.dtype
        place = self.target(*size)
        return torch.add(one, other, out=self._sum.get(*size) if place is None else place)


def stacked(parts: list[Tensor]) -> Tensor:
    """Rows on top of one another; no copy for one part."""
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=2)


def nowhere(rows: Tensor, row: int) -> None:
    """Between two images."""


class Sink(Stage):
    """The end: writes rows into the canvas."""

    def __init__(self) -> None:
        super().__init__()
        self.write: Callable[[Tensor, int], None] = nowhere

    def push(self, port: int, rows: Tensor, row: int, last: bool) -> None:
        """See :meth:`Stage.push`."""
        self.write(rows, row)
