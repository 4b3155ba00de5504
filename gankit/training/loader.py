"""Batches in order, for any number of processes and from any step on."""

from __future__ import annotations

import itertools
import shutil
import signal
import sys
from collections.abc import Iterator
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from gankit.training import ranks

_PREFETCHED = 2  # by each worker


def batches(
    dataset: Dataset[Any],
    batch: int,
    start: int,
    workers: int = 0,
    *,
    rank: int | None = None,
    world: int | None = None,
    pin: bool = False,
    together: int = 1,
) -> Iterator[Any]:
    """Batches in order from item ``start · batch · world`` on, without end.

    Of ``world · batch`` items in a row each process takes its own ``batch``, so that all together see what one process
    with a batch as large as theirs would.

    Args:
        dataset: one whose item ``i`` depends on ``i`` alone.
        batch: items in a batch of one process.
        start: batches to skip (the steps already done).
        workers: loader processes; 0 reads in this one.
        rank: the number of this process, if not that of the run under way.
        world: how many there are, likewise.
        pin: put the batches into page-locked memory, from which they are copied to a GPU while it computes.
        together: batches that a worker hands over at once, where its items are tuples of tensors. To receive something
            costs the main process about as much as to start a step on a GPU, whatever its size. Less where shared
            memory is small.
    """
    rank, world = ranks.rank() if rank is None else rank, ranks.world() if world is None else world
    together = _fitting(dataset, batch, workers, together) if workers and together > 1 else 1
    loader: DataLoader[Any] = DataLoader(
        dataset,
        batch_size=batch * together,
        sampler=_From(start * world + rank, batch, world),
        num_workers=workers,
        persistent_workers=workers > 0,
        prefetch_factor=_PREFETCHED if workers else None,
        pin_memory=pin,
        worker_init_fn=_ignore_interrupt,
        # Forked workers share what the dataset holds; others would get a copy each.
        multiprocessing_context="fork" if workers and sys.platform == "linux" else None,
        generator=torch.Generator(),  # else the loader draws from the global one, and a resumed run is another
    )
    if together == 1:
        yield from loader
        return
    for several in loader:
        yield from map(list, zip(*(each.split(batch) for each in several), strict=True))


def _fitting(dataset: Dataset[Any], batch: int, workers: int, together: int) -> int:
    """How many batches, at most ``together``, fit into shared memory as often as workers prefetch them."""
    if sys.platform != "linux":
        return together
    size = sum(each.numel() * each.element_size() for each in dataset[0]) * batch
    room = shutil.disk_usage("/dev/shm").free / 2
    return max(1, min(together, int(room / (size * workers * _PREFETCHED))))


def pinned(fabric: Any) -> bool:
    """Whether batches for this Lightning Fabric belong in page-locked memory: its device is a CUDA GPU."""
    return bool(fabric.device.type == "cuda")


class _From(Sampler[int]):
    """The items of every ``step``-th batch from batch ``first`` on."""

    def __init__(self, first: int, batch: int, step: int) -> None:
        self._first, self._batch, self._step = first, batch, step

    def __iter__(self) -> Iterator[int]:
        for number in itertools.count(self._first, self._step):
            yield from range(number * self._batch, (number + 1) * self._batch)


def _ignore_interrupt(worker: int) -> None:
    """Ctrl-C goes to every process of the terminal; the loop decides when the workers end."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
