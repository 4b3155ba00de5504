"""Queues and waits for a pipeline of threads that can be stopped at any moment. Knows nothing of images.

All waits share one condition. Stopping the run therefore wakes every thread, which then raises :class:`Stopped`.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
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


class Handover(Generic[T]):
    """Passes items from one thread to another, with a bounded number in flight.

    An item is in flight until its consumer asks for the next one, so that the producer may then use its memory again.

    Args:
        most: largest number of items in flight, with the one that the producer is making. With 1, producer and consumer
            take turns; with 2, one item is made while the one before it is used.
        stop: stops the waits.
    """

    def __init__(self, most: int, stop: Stop) -> None:
        self._items: deque[T] = deque()
        self._most = most
        self._stop = stop
        self._used = 0
        self._open = self._wanted = True

    def put(self, item: T) -> bool:
        """Pass an item on, and wait until another one may be made; return whether its consumer takes another one."""
        with self._stop.condition:
            self._items.append(item)
            self._stop.condition.notify_all()
            self._stop.wait_for(lambda: not self._wanted or len(self._items) + self._used < self._most)
            return self._wanted

    def close(self) -> None:
        """Report that no more items follow."""
        with self._stop.condition:
            self._open = False
            self._stop.condition.notify_all()

    def __iter__(self) -> Generator[T, None, None]:
        """Yield the items. A consumer that needs no more of them closes the generator."""
        try:
            while True:
                with self._stop.condition:
                    self._used = 0
                    self._stop.condition.notify_all()
                    self._stop.wait_for(lambda: bool(self._items) or not self._open)
                    if not self._items:
                        return
                    item, self._used = self._items.popleft(), 1
                yield item
                del item
        finally:
            with self._stop.condition:
                self._wanted = False
                self._items.clear()
                self._stop.condition.notify_all()


@contextmanager
def beside(stop: Stop, **bodies: Callable[[], None]) -> Iterator[None]:
    """Run functions in threads of their own beside a block, and wait for them at its end.

    An error in one of the threads or in the block stops the others; their waits then raise :class:`Stopped`. All
    threads have ended when the context does.

    Args:
        stop: stops all of them.
        bodies: the functions, by the names of their threads.

    Raises:
        BaseException: The first error of a thread, or the error of the block.
    """

    def guarded(body: Callable[[], None]) -> None:
        try:
            body()
        except Stopped:
            pass
        except BaseException as error:
            stop(error)

    threads = [threading.Thread(target=guarded, args=(body,), name=name) for name, body in bodies.items()]
    try:
        for thread in threads:
            thread.start()
        yield
        for thread in threads:
            thread.join()
    except Stopped:
        pass  # the cause is raised below, once all threads have ended
    finally:
        stop()
        for thread in threads:
            if thread.ident is not None:
                thread.join()
    if stop.cause is not None:
        raise stop.cause
