"""Two runs at the same time."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier


def twice_at_once(run):
    """The results of two calls that two threads begin together; an error of either is raised.

    Args:
        run: called with what waits for the other one, which it calls when it is ready to begin.
    """
    begin = Barrier(2)
    with ThreadPoolExecutor(2) as pool:
        calls = [pool.submit(run, begin.wait) for _ in range(2)]
        return [call.result() for call in calls]
