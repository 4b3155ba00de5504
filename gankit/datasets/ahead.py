"""Work that is done a few items ahead of who asks for it, by threads: Pillow and numpy leave Python free meanwhile."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")
_MOST = 16  # each holds an image of its own


def in_order(work: Callable[[T], R], items: Iterable[T], threads: int | None = None) -> Iterator[R]:
    """``map(work, items)``, in order, with a few items at work at any time.

    Args:
        work: may be called from several threads at once; what it raises is raised where its result would come.
        items: taken one at a time, no more of them ahead than there are threads.
        threads: by default as many as the process has cores, at most 16.
    """
    threads = threads or min(_MOST, _cores())
    if threads == 1:
        yield from map(work, items)
        return
    with ThreadPoolExecutor(threads) as pool:
        running: deque[Future[R]] = deque()
        try:
            for item in items:
                running.append(pool.submit(work, item))
                del item  # else the last one is held until the next one comes
                if len(running) > threads:
                    yield running.popleft().result()
            while running:
                yield running.popleft().result()
        finally:
            for future in running:
                future.cancel()


def _cores() -> int:
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # macOS and Windows
        return os.cpu_count() or 1
