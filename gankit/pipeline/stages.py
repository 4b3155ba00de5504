"""How long a stage of a run is busy and waits for the others, and how long it still takes. Knows nothing of images."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from time import perf_counter
from typing import TypeVar

T = TypeVar("T")


class Stage:
    """The time of one of several threads that work at the same time. Others may read it while it runs.

    Attributes:
        part: the part of its work that is done, 0 to 1.
        waited: seconds for which it waited, by what it waited for.
    """

    def __init__(self) -> None:
        self.part = 0.0
        self.waited: defaultdict[str, float] = defaultdict(float)
        self._began: float | None = None
        self._paused: float | None = None  # since when it waits, or has ended

    @property
    def seconds(self) -> float:
        """Seconds for which it was busy."""
        if self._began is None:
            return 0.0
        until = self._paused
        return (perf_counter() if until is None else until) - self._began - sum(self.waited.values())

    @property
    def seconds_left(self) -> float:
        """Estimate of the seconds for which it will be busy; 0 before anything is done."""
        return self.seconds * (1 - self.part) / self.part if self.part else 0.0

    @contextmanager
    def running(self) -> Iterator[None]:
        """Measure a block, which is all that the stage does."""
        self._began = perf_counter()
        try:
            yield
        finally:
            self._paused = perf_counter()

    @contextmanager
    def waiting(self, what: str) -> Iterator[None]:
        """Measure a block in which it waits."""
        began = self._paused = perf_counter()
        try:
            yield
        finally:
            self.waited[what] += perf_counter() - began
            self._paused = None

    def awaited(self, items: Generator[T, None, None], what: str) -> Generator[T, None, None]:
        """Yield items for which it waits."""
        with closing(items):
            while True:
                with self.waiting(what):
                    item = next(items, None)
                if item is None:
                    return
                yield item
                del item
