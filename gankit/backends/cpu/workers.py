"""Threads that each keep one core busy, without a barrier between them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait

import torch


class Workers:
    """Threads in each of which torch computes alone.

    torch's own threads share each layer and wait for one another at its end, so that the slowest core sets the pace.
    Here every thread takes the next piece of work when it is free.

    Args:
        count: number of threads.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self._pool = ThreadPoolExecutor(count, thread_name_prefix="gankit-stream")
        started = threading.Barrier(count + 1)
        for _ in range(count):
            self._pool.submit(_compute_alone, started)
        started.wait()
        # Setting the number of one thread also sets that of all threads that torch meets later.
        torch.set_num_threads(torch.get_num_threads())

    def run(self, work: Iterable[Callable[[], None]]) -> None:
        """Do pieces of work, and return when all are done.

        Raises:
            Exception: The first that a piece raised. Pieces that had not begun are left out.
        """
        futures = [self._pool.submit(piece) for piece in work]
        _, waiting = wait(futures, return_when=FIRST_EXCEPTION)
        for future in waiting:
            future.cancel()
        wait(waiting)
        for future in futures:
            if not future.cancelled():
                future.result()

    def close(self) -> None:
        """End the threads. It is safe to call this twice."""
        self._pool.shutdown()


def _compute_alone(started: threading.Barrier) -> None:
    torch.get_num_threads()  # takes the setting of the process, once for each thread
    torch.set_num_threads(1)
    started.wait()
