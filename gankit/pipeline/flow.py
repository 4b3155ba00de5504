"""Waiting in a pipeline of threads that can be ended at any moment. Knows nothing of images.

All waits are on one condition, so that ending the run wakes every thread; each then leaves by :class:`Stopped`.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

T = TypeVar("T")


class Stopped(Exception):  # noqa: N818 - a signal, no error
    """The run is being ended; leaves the stage that it is raised in."""


class Stop:
    """The end of a run, and what caused it.

    Attributes:
        condition: guards everything in this module.
        set: the run is being ended.
        cause: the first exception that ended it, if one did.
    """

    def __init__(self) -> None:
        self.condition = threading.Condition()
        self.set = False
        self.cause: BaseException | None = None

    def __call__(self, cause: BaseException | None = None) -> None:
        """End the run; only the first call's cause counts."""
        with self.condition:
            if not self.set:
                self.cause = cause
            self.set = True
            self.condition.notify_all()

    def check(self) -> None:
        """Raises :class:`Stopped` once the run ends."""
        if self.set:
            raise Stopped

    def wait_for(self, ready: Callable[[], bool]) -> None:
        """Wait, holding the condition, until ``ready``; raises :class:`Stopped` once the run ends."""
        # The timeout lets Ctrl-C through on systems whose untimed waits cannot be interrupted.
        while not self.set and not ready():
            self.condition.wait(0.5)
        self.check()


class Channel(Generic[T]):
    """A bounded queue that ends once all who fill it have closed it; what is in it still comes out.

    Args:
        size: items that it holds.
        stop: ends the waits.
        producers: how many will call :meth:`close`.
    """

    def __init__(self, size: int, stop: Stop, producers: int = 1) -> None:
        self._items: deque[T] = deque()
        self._size = size
        self._stop = stop
        self._open = producers

    def put(self, item: T) -> None:
        """Add an item, waiting for room."""
        with self._stop.condition:
            self._stop.wait_for(lambda: len(self._items) < self._size)
            self._items.append(item)
            self._stop.condition.notify_all()

    def close(self) -> None:
        """One producer has no more."""
        with self._stop.condition:
            self._open -= 1
            self._stop.condition.notify_all()

    def __iter__(self) -> Iterator[T]:
        while True:
            with self._stop.condition:
                self._stop.wait_for(lambda: bool(self._items) or not self._open)
                if not self._items:
                    return
                item = self._items.popleft()
                self._stop.condition.notify_all()
            yield item
            del item  # a consumer that waits must not keep the last image alive

    def take(self, accept: Callable[[T], bool]) -> T | None:
        """The next item if it is there already and ``accept`` likes it; waits for nothing."""
        with self._stop.condition:
            if not self._items or not accept(self._items[0]):
                return None
            item = self._items.popleft()
            self._stop.condition.notify_all()
            return item


class Budget:
    """Bytes that may be in flight. One image is always let through, however large.

    Args:
        limit: bytes.
        stop: ends the waits.
    """

    def __init__(self, limit: int, stop: Stop) -> None:
        self._limit = limit
        self._used = 0
        self._stop = stop

    def take(self, cost: int) -> None:
        """Wait until ``cost`` fits, and count it."""
        with self._stop.condition:
            self._stop.wait_for(lambda: self._used == 0 or self._used + cost <= self._limit)
            self._used += cost

    def give(self, cost: int) -> None:
        """Count ``cost`` no longer."""
        with self._stop.condition:
            self._used -= cost
            self._stop.condition.notify_all()
