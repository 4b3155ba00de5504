"""A value that is made when it is first needed, such as a generator whose facts are already known. Imports no torch."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Deferred(Generic[T]):
    """A value that the first call of :meth:`get` makes. All threads get the same one.

    Args:
        make: makes the value. If it raises, the next call tries again.
    """

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._made: list[T] = []
        self._lock = threading.RLock()

    @property
    def made(self) -> bool:
        """Whether the value exists."""
        return bool(self._made)

    def get(self) -> T:
        """Return the value."""
        with self._lock:
            if not self._made:
                self._made.append(self._make())
            return self._made[0]
