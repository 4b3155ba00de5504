"""The processes of one run, one a device: which this one is, and what they tell each other.

Everything here also works, and costs nothing, where there is but one process.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch
from torch import distributed

from gankit.errors import GankitError

T = TypeVar("T")


class ElsewhereError(GankitError):
    """The first process failed, and the others cannot go on."""

    exit_code = 1


def world() -> int:
    """How many processes train together."""
    return distributed.get_world_size() if _joined() else 1


def rank() -> int:
    """The number of this process; that of the first, which alone validates and writes files, is 0."""
    return distributed.get_rank() if _joined() else 0


def is_first() -> bool:
    """Whether this process is the first of those that were launched together.

    Known from the launcher's environment (torchrun's or Fabric's) before the processes have met.
    """
    if _joined():
        return rank() == 0
    names = ("RANK",) if "RANK" in os.environ else ("LOCAL_RANK", "NODE_RANK")
    return all(os.environ.get(name, "0") == "0" for name in names)


def mean(values: Sequence[float]) -> list[float]:
    """The mean of each number over all processes; not finite as soon as one is not."""
    return [total / world() for total in _sums(values)]


def agreed(*flags: bool) -> tuple[bool, ...]:
    """Of each flag, whether it is set in any process."""
    return tuple(total > 0 for total in _sums([float(flag) for flag in flags]))


def by_first(work: Callable[[], T]) -> T:
    """Let the first process do something, and wait for what comes of it.

    Returns:
        What ``work`` returned, in every process; it must be picklable.

    Raises:
        ElsewhereError: in the other processes, where ``work`` failed. The first raises the error itself.
    """
    if world() == 1:
        return work()
    outcome: list[Any] = [None, ""]
    failure: BaseException | None = None
    if rank() == 0:
        try:
            outcome[0] = work()
        except BaseException as error:  # whatever it is, the others wait
            failure, outcome[1] = error, str(error) or type(error).__name__
    distributed.broadcast_object_list(outcome)
    if failure is not None:
        raise failure
    if outcome[1]:
        raise ElsewhereError(f"the first process failed: {outcome[1]}")
    result: T = outcome[0]
    return result


def gathered(thing: T) -> list[T]:
    """``thing`` of every process, by rank; it must be picklable."""
    if world() == 1:
        return [thing]
    things: list[Any] = [None] * world()
    distributed.all_gather_object(things, thing)
    return things


def _joined() -> bool:
    return distributed.is_available() and distributed.is_initialized()


def _sums(values: Sequence[float]) -> list[float]:
    if world() == 1 or not values:
        return list(values)
    device = torch.device("cuda", torch.cuda.current_device()) if distributed.get_backend() == "nccl" else "cpu"
    total = torch.tensor(values, dtype=torch.float64, device=device)
    distributed.all_reduce(total)
    sums: list[float] = total.tolist()
    return sums
