"""Queues and waits for a pipeline of threads that can be stopped at any moment. Knows nothing of images.

All waits share one condition. Stopping the run therefore wakes every thread, which then raises :class:`Stopped`.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

T = TypeVar("T")


class Stopped(Exception):  # noqa: N818 - a signal, no error
    """The run is being stopped; ends the thread in which it is raised."""


class Stop:
    """Stops a run and records the cause.

    Attributes:
        condition: guards everything in this module.
        set: whether the run is being stopped.
        cause: the first exception that stopped the run, if any.
    """

    def __init__(self) -> None:
        self.condition = threading.Condition()
        self.set = False
        self.cause: BaseException | None = None

    def __call__(self, cause: BaseException | None = None) -> None:
        """Stop the run. Only the cause of the first call counts."""
        with self.condition:
            if not self.set:
                self.cause = cause
            self.set = True
            self.condition.notify_all()

    def check(self) -> None:
        """Raise :class:`Stopped` if the run is being stopped."""
        if self.set:
            raise Stopped

    def wait_for(self, ready: Callable[[], bool]) -> None:
        """Wait until ``ready`` is true; raise :class:`Stopped` if the run stops. The caller holds the condition."""
        # The timeout lets Ctrl-C through on systems whose untimed waits cannot be interrupted.
        while not self.set and not ready():
            self.condition.wait(0.5)
        self.check()


class Channel(Generic[T]):
    """A bounded queue that ends after all producers have closed it and its items have been taken.

    Args:
        size: largest number of items in the queue.
        stop: stops the waits.
        producers: number of producers, each of which calls :meth:`close` once.
    """

    def __init__(self, size: int, stop: Stop, producers: int = 1) -> None:
        self._items: deque[T] = deque()
        self._size = size
        self._stop = stop
        self._open = producers

    def put(self, item: T) -> None:
        """Add an item. Waits while the queue is full."""
        with self._stop.condition:
            self._stop.wait_for(lambda: len(self._items) < self._size)
            self._items.append(item)
            self._stop.condition.notify_all()

    def close(self) -> None:
        """Report that one producer has no more items."""
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

    def take(self, accept: Callable[[T], bool], wait: float = 0.0) -> T | None:
        """Take the next item if there is one and ``accept`` returns true for it; otherwise return ``None``.

        Args:
            accept: decides whether to take the item.
            wait: seconds to wait for an item if there is none. It returns at once if none can follow.
        """
        with self._stop.condition:
            if not self._items and wait > 0:
                self._stop.condition.wait_for(lambda: self._items or not self._open or self._stop.set, wait)
                self._stop.check()
            if not self._items or not accept(self._items[0]):
                return None
            item = self._items.popleft()
            self._stop.condition.notify_all()
            return item


class Budget:
    """A limit on the bytes in flight. One image is always allowed, however large it is.

    Args:
        limit: largest number of bytes in flight.
        stop: stops the waits.
    """

    def __init__(self, limit: int, stop: Stop) -> None:
        self._limit = limit
        self._used = 0
        self._stop = stop

    def take(self, cost: int) -> None:
        """Wait until ``cost`` bytes fit within the limit, and reserve them."""
        with self._stop.condition:
            self._stop.wait_for(lambda: self._used == 0 or self._used + cost <= self._limit)
            self._used += cost

    def give(self, cost: int) -> None:
        """Release ``cost`` bytes."""
        with self._stop.condition:
            self._used -= cost
            self._stop.condition.notify_all()
