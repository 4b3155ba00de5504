"""How many CPU threads an engine uses."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import psutil
import torch


def physical_cores() -> int:
    """Physical cores that this process may use; hyper-threads share a matrix unit and gain nothing."""
    logical = (
        len(psutil.Process().cpu_affinity()) if hasattr(psutil.Process, "cpu_affinity") else psutil.cpu_count() or 1
    )
    per_core = max(1, (psutil.cpu_count() or 1) // (psutil.cpu_count(logical=False) or psutil.cpu_count() or 1))
    return max(1, logical // per_core)


@contextmanager
def limited_threads(threads: int | None) -> Iterator[None]:
    """Run torch with this many threads inside, and as before outside; ``None`` changes nothing."""
    if threads is None or threads == torch.get_num_threads():
        yield
        return
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)
