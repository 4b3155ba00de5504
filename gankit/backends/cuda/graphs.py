"""CUDA graphs of a computation, for the shapes that come again and again.

A network of small layers takes longer to launch than to compute: on an H100, CycleGAN needs 2.8 ms for one image of
160×192, of which the layers take 0.6 ms. A graph launches them all at once. Recording costs memory and about as long as
a call, so it waits until a shape comes again, and a call that keeps the GPU busy for long is not recorded at all,
because its launches are hidden behind its own layers.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from gankit.backends.cuda.streams import Cuda, Event, Function, Recording
from gankit.backends.memory import is_out_of_memory

_MOST_GRAPHS = 4
_MOST_SHAPES = 64  # seen shapes whose calls are counted
_CALLS_BEFORE = 3  # calls of a shape before it is recorded; the first one compiles kernels and is not timed
_LONGEST_MS = 10.0  # shapes whose calls take longer are not recorded
_MOST_RECORDED = 2  # times that one shape is recorded; more shapes than graphs would otherwise record all the time
_LONG_CALLS = 2  # so many long calls in a row decide it, because any single call may be disturbed


@dataclass
class _Seen:
    """How often a shape came, the events around a call that is timed, and whether it must not be recorded (again)."""

    calls: int = 0
    timed: tuple[Event, Event] | None = None
    long_calls: int = 0
    refused: bool = False
    recorded: int = 0


class Graphs:
    """Runs a computation, and records it for shapes that come again. Whoever calls it holds the lock of the GPU.

    Args:
        cuda: the GPU.
        function: the computation on its tensors.
        enabled: whether to record anything.
    """

    def __init__(self, cuda: Cuda, function: Function, *, enabled: bool) -> None:
        self._cuda, self._function = cuda, function
        self._enabled = enabled
        self._recorded: OrderedDict[Hashable, Recording] = OrderedDict()
        self._seen: OrderedDict[Hashable, _Seen] = OrderedDict()
        self._pool: Any = None

    def __len__(self) -> int:
        return len(self._recorded)

    def run(self, given: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Queue the computation, as a graph if its shapes have one.

        Returns:
            Its outputs, which nothing overwrites.
        """
        key = _key(given)
        if key in self._recorded:
            self._recorded.move_to_end(key)
            return self._cuda.replay(self._recorded[key], given)
        if not self._enabled:
            return self._cuda.call(self._function, given)
        seen = self._seen.setdefault(key, _Seen())
        self._seen.move_to_end(key)
        while len(self._seen) > _MOST_SHAPES:
            self._seen.popitem(last=False)
        seen.calls += 1
        if seen.calls == 1 or seen.timed is not None or seen.refused:
            return self._cuda.call(self._function, given)
        before = self._cuda.record("compute", timed=True)
        made = self._cuda.call(self._function, given)
        seen.timed = before, self._cuda.record("compute", timed=True)
        return made

    def learn(self, given: Sequence[Tensor]) -> None:
        """Record the shapes of a call that was just queued, if they came often enough.

        A computation that cannot be recorded is never tried again.

        Args:
            given: the inputs of that call.
        """
        key = _key(given)
        seen = self._seen.get(key)
        if not self._enabled or seen is None or seen.refused or key in self._recorded or not self._is_due(seen):
            return
        while len(self._recorded) >= _MOST_GRAPHS:
            dropped, _ = self._recorded.popitem(last=False)
            if (past := self._seen.get(dropped)) is not None:
                past.calls, past.timed = 0, None
        if self._pool is None:
            self._pool = self._cuda.graph_pool()
        try:
            self._recorded[key] = self._cuda.capture(self._function, given, self._pool)
            seen.recorded += 1
            seen.refused = seen.recorded >= _MOST_RECORDED
        except Exception as error:  # the module is the user's, and may do anything
            seen.refused = True
            if not is_out_of_memory(error):
                self._enabled = False

    def _is_due(self, seen: _Seen) -> bool:
        if seen.calls < _CALLS_BEFORE or seen.timed is None or not seen.timed[1].query():
            return False
        if self._cuda.milliseconds(*seen.timed) <= _LONGEST_MS:
            return True
        seen.timed = None
        seen.long_calls += 1
        seen.refused = seen.long_calls >= _LONG_CALLS
        return False

    def give_up(self) -> None:
        """Drop all graphs and their memory, and record no others. The GPU must be idle."""
        self._enabled = False
        self._recorded.clear()
        self._seen.clear()
        self._pool = None


def _key(given: Sequence[Tensor]) -> Hashable:
    return tuple((tuple(item.shape), item.stride(), item.dtype) for item in given)
