"""Run a chain of convolutions over horizontal strips, with no halo and nothing computed twice.

Every layer keeps the last rows that it has seen, so an image of any height flows through with a working set that fits
the cache. The pixels are those of the whole image at once, for any depth of network.

A traced generator becomes a graph of *stages*. Rows are pushed into a stage and it pushes what has become known to the
next. Rows handed to a stage are valid during the call only: a stage that keeps some copies them.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from gankit.backends.cpu.fused import FusedConv

STRIP_BYTES = 8 << 20  # one layer's output for one strip: a few of them fit a shared cache


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


class ConvStage(Stage):
    """A zero-padded, stride-1 convolution with the activation behind it."""

    def __init__(self, conv: FusedConv, strip_bytes: int) -> None:
        super().__init__()
        self._conv, self._bytes = conv, strip_bytes
        self._reach = conv.kernel[0] // 2
        self._kept: Tensor | None = None

    def reset(self) -> None:
        """See :meth:`Stage.reset`."""
        self._kept = None

    def push(self, port: int, rows: Tensor, last: bool) -> None:
        """See :meth:`Stage.push`."""
        row_bytes = max(self._conv.out_channels, self._conv.in_channels) * rows.shape[3] * rows.element_size()
        piece = max(4, self._bytes // row_bytes)
        count = max(1, -(-rows.shape[2] // piece))
        pieces = rows.tensor_split(count, dim=2) if count > 1 else (rows,)
        for index, part in enumerate(pieces):
            self._push(part, last and index == len(pieces) - 1)

    def _push(self, rows: Tensor, last: bool) -> None:
        reach = self._reach
        parts = []
        if self._kept is None:
            if reach:
                parts.append(_zeros(rows, reach))
        else:
            parts.append(self._kept)
        parts.append(rows)
        if last and reach:
            parts.append(_zeros(rows, reach))
        window = _stack(parts)
        if reach and not last:
            # 2·reach rows, or all of them where fewer have come yet
            self._kept = window[:, :, max(0, window.shape[2] - 2 * reach) :].clone(memory_format=torch.channels_last)
        if window.shape[2] > 2 * reach:
            self.emit(self._conv(window, (0, self._conv.kernel[1] // 2)), last)
        elif last:
            raise AssertionError("the last rows of an image always complete an output row")


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
        return _stack(parts)

    def _finish(self, inputs: list[Tensor]) -> None:
        self.emit(self._join(inputs), all(self._ended) and not any(self._queues))


class ResidualChain(Stage):
    """Consecutive residual blocks x + conv2(act(conv1(x))), updated in place in one sliding window.

    A block's output row needs its input two (in general reach1 + reach2) rows on, so every block lags its
    predecessor by that. The window holds the rows of all levels at once: block i + 1 begins that many rows above block
    i, where the four (2·lag) rows that it kept from the strip before are put back first. Nothing but these is copied;
    the second convolution adds into the window. Its first one computes 2·reach2 rows again per strip (2 of 64).
    """

    def __init__(self, blocks: list[tuple[FusedConv, FusedConv]]) -> None:
        super().__init__()
        self._blocks = blocks
        self._lags = [first.kernel[0] // 2 + second.kernel[0] // 2 for first, second in blocks]
        self.height = 0
        self._window: Tensor | None = None
        self.reset()

    def reset(self) -> None:
        """See :meth:`Stage.reset`."""
        self._kept: list[Tensor | None] = [None] * len(self._blocks)
        self._known = [0] * (len(self._blocks) + 1)  # rows known at each level

    def push(self, port: int, rows: Tensor, last: bool) -> None:
        """See :meth:`Stage.push`."""
        begin = self._known[0]
        base = max(0, begin - sum(self._lags) - 2 * max(self._lags))
        window = self._space(rows, begin + rows.shape[2] - base)
        window[:, :, begin - base :].copy_(rows)
        self._known[0] = begin + rows.shape[2]
        if last:
            self.height = self._known[0]
        start = self._known[-1]
        for level in range(len(self._blocks)):
            self._block(level, window, base, last)
        if (stop := self._known[-1]) > start:
            self.emit(window[:, :, start - base : stop - base], last)

    def _space(self, rows: Tensor, count: int) -> Tensor:
        shape = (1, rows.shape[1], count, rows.shape[3])
        window = self._window
        if window is None or window.shape[3] != shape[3] or window.shape[2] < count or window.dtype != rows.dtype:
            window = torch.empty(shape, dtype=rows.dtype, memory_format=torch.channels_last)
            self._window = window
        return window[:, :, :count]

    def _block(self, level: int, window: Tensor, base: int, last: bool) -> None:
        first, second = self._blocks[level]
        lag, reach1, reach2 = self._lags[level], first.kernel[0] // 2, second.kernel[0] // 2
        known = self._known[level]
        height = known if last else 1 << 60
        start, stop = self._known[level + 1], known if last else max(self._known[level + 1], known - lag)
        kept = self._kept[level]
        if kept is not None:  # rows of this level that the strip before ended with
            before = max(0, start - lag)
            window[:, :, before - base : before - base + kept.shape[2]].copy_(kept)
        if not last:
            keep = max(0, stop - lag)
            self._kept[level] = window[:, :, keep - base : known - base].clone(memory_format=torch.channels_last)
        if stop <= start:
            return
        inner_start, inner_stop = max(0, start - reach2), min(height, stop + reach2)
        outer_start, outer_stop = max(0, inner_start - reach1), min(height, inner_stop + reach1)
        hidden = _conv_rows(
            first,
            window[:, :, outer_start - base : outer_stop - base],
            reach1 - (inner_start - outer_start),
            reach1 - (outer_stop - inner_stop),
        )
        target = window[:, :, start - base : stop - base]
        _conv_rows(second, hidden, reach2 - (start - inner_start), reach2 - (inner_stop - stop), add_to=target)
        self._known[level + 1] = stop


def _conv_rows(conv: FusedConv, rows: Tensor, top: int, bottom: int, add_to: Tensor | None = None) -> Tensor:
    """The convolution with ``top`` and ``bottom`` rows of zeros around, columns padded as usual."""
    side = conv.kernel[1] // 2
    if top == bottom:
        return conv(rows, (top, side), add_to)
    padded = F.pad(rows, (0, 0, top, bottom)).contiguous(memory_format=torch.channels_last)
    return conv(padded, (0, side), add_to)


def _zeros(like: Tensor, rows: int) -> Tensor:
    shape = (1, like.shape[1], rows, like.shape[3])
    return torch.zeros(shape, dtype=like.dtype).contiguous(memory_format=torch.channels_last)


def _stack(parts: list[Tensor]) -> Tensor:
    """Rows on top of one another; no copy for one part."""
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=2)


def _nowhere(rows: Tensor, row: int) -> None:
    """Between two images."""


class Sink(Stage):
    """The end: writes rows into the canvas."""

    def __init__(self) -> None:
        super().__init__()
        self.write: Callable[[Tensor, int], None] = _nowhere
        self.row = 0

    def reset(self) -> None:
        """See :meth:`Stage.reset`."""
        self.row = 0

    def push(self, port: int, rows: Tensor, last: bool) -> None:
        """See :meth:`Stage.push`."""
        self.write(rows, self.row)
        self.row += rows.shape[2]


class Stream:
    """A generator arranged for strips.

    Args:
        module: a traced generator (:func:`gankit_export.rewrites.for_inference`) in the precision to run in.
        strip_bytes: how large one layer's output of one strip may be.

    Raises:
        NotStreamableError: a layer needs the whole image, or is not known.
    """

    def __init__(self, module: fx.GraphModule, strip_bytes: int = STRIP_BYTES) -> None:
        from gankit.backends.cpu.stages import build_stages

        self._bytes = strip_bytes
        self._source, self._sink, self._stages = build_stages(module, strip_bytes)
        self._first = next(item for item in module.modules() if isinstance(item, nn.Conv2d))

    def run(self, image: Tensor, prepare: Callable[[Tensor], Tensor], write: Callable[[Tensor, int], None]) -> None:
        """Stream one image.

        Args:
            image: (1, C, H, W).
            prepare: a strip of the image to values in the engine's precision, channels_last.
            write: called with (1, C, rows, width) results from the top on and the index of their first row.
        """
        self._sink.write = write
        try:
            self._push(image, prepare)
        finally:  # also for an image that failed: the next must not see its rows, nor its result stay alive
            self._sink.write = _nowhere
            for stage in self._stages:
                stage.reset()

    def _push(self, image: Tensor, prepare: Callable[[Tensor], Tensor]) -> None:
        height, width = image.shape[2:]
        row_bytes = self._first.out_channels * width * self._first.weight.element_size()
        strip = min(height, max(16, self._bytes // row_bytes))
        count = -(-height // strip)
        for index, rows in enumerate(image.tensor_split(count, dim=2)):
            values = prepare(rows).contiguous(memory_format=torch.channels_last)
            for stage, port in self._source.consumers:
                stage.push(port, values, index == count - 1)
