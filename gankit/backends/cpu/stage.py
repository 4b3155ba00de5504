"""What a streamed network is made of: stages that take rows and push rows on."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


class NotStreamableError(ValueError):
    """The network has a layer that strips cannot run."""


class Stage:
    """Takes rows (1, C, rows, W) at its ports and pushes rows on.

    Attributes:
        consumers: (stage, port) pairs that get the result.
    """

    def __init__(self) -> None:
        self.consumers: list[tuple[Stage, int]] = []

    def reset(self) -> None:
        """Forget the rows of the image before."""

    def push(self, port: int, rows: Tensor, last: bool) -> None:
        """Take the next rows at a port; ``last`` says that they end the image."""
        raise NotImplementedError

    def emit(self, rows: Tensor, last: bool) -> None:
        """Hand rows on."""
        for stage, port in self.consumers:
            stage.push(port, rows, last)


class PointwiseStage(Stage):
    """A function of rows that need no neighbours: an activation, a PixelShuffle, nearest-neighbour enlargement."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self._function = function

    def push(self, port: int, rows: Tensor, last: bool) -> None:
        """See :meth:`Stage.push`."""
        self.emit(self._function(rows), last)


class JoinStage(Stage):
    """Adds or concatenates its inputs, which arrive with different delays."""

    def __init__(self, ports: int, join: Callable[[list[Tensor]], Tensor]) -> None:
        super().__init__()
        self._ports, self._join = ports, join
        self.reset()

    def reset(self) -> None:
        """See :meth:`Stage.reset`."""
        self._queues: list[list[Tensor]] = [[] for _ in range(self._ports)]
        self._ended = [False] * self._ports

    def push(self, port: int, rows: Tensor, last: bool) -> None:
        """See :meth:`Stage.push`."""
        waiting = self._queues[port]
        others = [sum(item.shape[2] for item in queue) for index, queue in enumerate(self._queues) if index != port]
        self._ended[port] |= last
        have = sum(item.shape[2] for item in waiting) + rows.shape[2]
        ready = min(have, *others)
        if ready == have and not waiting:
            self._finish([rows if index == port else self._take(index, ready) for index in range(self._ports)])
            return
        waiting.append(rows.clone(memory_format=torch.channels_last))
        if ready:
            self._finish([self._take(index, ready) for index in range(self._ports)])

    def _take(self, port: int, count: int) -> Tensor:
        queue, parts = self._queues[port], []
        while count:
            head = queue[0]
            if head.shape[2] <= count:
                parts.append(queue.pop(0))
            else:
                parts.append(head[:, :, :count])
                queue[0] = head[:, :, count:]
            count -= parts[-1].shape[2]
        return stacked(parts)

    def _finish(self, inputs: list[Tensor]) -> None:
        self.emit(self._join(inputs), all(self._ended) and not any(self._queues))


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
        self.row = 0

    def reset(self) -> None:
        """See :meth:`Stage.reset`."""
        self.row = 0

    def push(self, port: int, rows: Tensor, last: bool) -> None:
        """See :meth:`Stage.push`."""
        self.write(rows, self.row)
        self.row += rows.shape[2]
