"""How many requests are in flight, and how large their results are. Requests beyond the limits are refused."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable

from gankit.serving.problems import Problem

_LONGEST = 60


class Admission:
    """Counts the requests in flight. May be used from several threads.

    Args:
        requests: largest number of requests.
        pixels: largest number of pixels of their results. One result is always allowed.
        delay: returns about how many seconds the requests that wait will take.
    """

    def __init__(self, requests: int, pixels: int, delay: Callable[[], float]) -> None:
        self._most, self._most_pixels, self._delay = requests, pixels, delay
        self._lock = threading.Lock()
        self._requests = self._pixels = 0
        self.draining = False

    @property
    def requests(self) -> int:
        """Number of requests in flight."""
        return self._requests

    def enter(self) -> None:
        """Count a request.

        Raises:
            Problem: If there are too many, or the service is shutting down.
        """
        with self._lock:
            if self.draining:
                raise Problem(503, "the service is shutting down; try again in a moment", {"Retry-After": "5"})
            if self._requests >= self._most:
                raise self._full(f"{self._requests} requests are in flight")
            self._requests += 1

    def leave(self, pixels: int) -> None:
        """Forget a request and the pixels of its result."""
        with self._lock:
            self._requests -= 1
            self._pixels -= pixels

    def take(self, pixels: int) -> None:
        """Reserve the pixels of a result.

        Raises:
            Problem: If the results in flight are too large.
        """
        with self._lock:
            if self._pixels and self._pixels + pixels > self._most_pixels:
                raise self._full(f"results of {self._pixels / 1e6:.0f} MP are in flight")
            self._pixels += pixels

    def _full(self, why: str) -> Problem:
        seconds = min(_LONGEST, max(1, math.ceil(self._delay())))
        return Problem(429, f"{why}; try again in {seconds} s", {"Retry-After": str(seconds)})
