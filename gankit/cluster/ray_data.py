"""What all runs on a Ray cluster share: the address, the workers and Ray Data. Imports no Ray before it runs."""

from __future__ import annotations

import importlib.util
import logging
import os
import pickle
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from gankit.errors import BackendError, UsageError, first_line

TASK, RESULT = "task", "result"
_ADDRESS = re.compile(r"auto|local|(ray://)?[\w.\-\[\]:]+:\d+")
_GROUP_CORES = 8  # an engine with more gains little, and images are independent of each other
_BLOCKS = 4  # in which each worker would do the tasks that are left


@dataclass(frozen=True)
class Pool:
    """The workers of a run.

    Attributes:
        workers: their number.
        cpus: CPU cores of each.
        gpus: GPUs of each, 0 or 1.
    """

    workers: int
    cpus: int
    gpus: int


def check(address: str) -> None:
    """Check that an address is one, and that Ray is there.

    Raises:
        UsageError: If one of them is not so.
    """
    check_address(address)
    if importlib.util.find_spec("ray") is None:
        raise UsageError("--cluster needs Ray; run: pip install 'gankit[ray]'")


def check_address(address: str) -> None:
    """Check that an address is one; ``--cluster photos/`` takes the next word for it.

    Raises:
        UsageError: If it is none.
    """
    if not _ADDRESS.fullmatch(address):
        raise UsageError(
            f"'{address}' is no address of a cluster; use HOST:PORT, local or auto, or write --cluster last"
        )


def pool_of(nodes: Sequence[Any], threads: int | None, device: str = "auto") -> Pool:
    """Return the workers for a cluster: one for each GPU, or else one for each group of cores.

    Args:
        nodes: what ``ray.nodes()`` returns.
        threads: cores of each worker that the user asked for; ``None`` makes groups of up to 8 in each machine.
        device: device that the user asked for; ``"cpu"`` leaves GPUs alone.

    Raises:
        UsageError: If no machine has so many cores.
    """
    resources = [node["Resources"] for node in nodes if node["Alive"]]
    gpus = 0 if device == "cpu" else int(sum(each.get("GPU", 0) for each in resources))
    if gpus:
        return Pool(gpus, 1, 1)
    cores = [int(each.get("CPU", 0)) for each in resources if each.get("CPU", 0) >= 1]
    if not cores:
        raise UsageError("the cluster has no CPU cores to run on")
    each = threads or max(1, min(cores) // -(-min(cores) // _GROUP_CORES))
    workers = sum(count // each for count in cores)
    if not workers:
        raise UsageError(f"no machine of the cluster has {each} cores; use a smaller --threads")
    return Pool(workers, each, 0)


def divided(tasks: Sequence[Any], workers: int, share: Callable[[Any], float]) -> list[list[Any]]:
    """Divide tasks into blocks, which get smaller in the end, so that no worker waits long for the last one.

    Args:
        tasks: the tasks.
        workers: the number of workers.
        share: returns how much of a full block a task is. A task that is more than one is a block of its own.
    """
    blocks: list[list[Any]] = []
    most, filled = 0, 0.0
    for done, task in enumerate(tasks):
        if not blocks or len(blocks[-1]) >= most or filled + share(task) > 1:
            blocks.append([])
            most, filled = (len(tasks) - done) // (_BLOCKS * workers), 0.0
        blocks[-1].append(task)
        filled += share(task)
    return blocks


def rows(
    ray: Any, pool: Pool, worker: type, arguments: Sequence[Any], blocks: Sequence[Sequence[Any]]
) -> Iterator[bytes]:
    """Yield the results of the workers, in any order.

    Args:
        ray: the module.
        pool: the workers.
        worker: class of the workers: called with the tasks of a block, pickled, in a column, it returns a column of
            results.
        arguments: those of its constructor.
        blocks: the tasks. A worker gets a block at a time.

    Raises:
        BackendError: If the cluster ends before the run does.
    """
    data = ray.data.from_arrow([_table([pickle.dumps(task) for task in block]) for block in blocks])
    done = data.map_batches(
        worker,
        fn_constructor_args=tuple(arguments),
        batch_size=None,  # a block at a time
        compute=ray.data.ActorPoolStrategy(size=min(pool.workers, len(blocks))),
        num_cpus=pool.cpus,
        num_gpus=pool.gpus,
    )
    try:
        for row in done.iter_rows():
            yield row[RESULT]
    except ray.exceptions.RayError as error:
        raise BackendError(f"the cluster could not finish the run: {first_line(error)}") from error


def _table(items: Sequence[bytes]) -> Any:
    import pyarrow

    return pyarrow.table({TASK: pyarrow.array(items, pyarrow.large_binary())})


@contextmanager
def connected(address: str) -> Iterator[Any]:
    """Connect to a cluster, whose own lines are kept off the terminal."""
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    import ray
    import ray.data

    own = not ray.is_initialized()
    if own:
        try:
            ray.init(
                None if address == "auto" else address,
                log_to_driver=False,
                logging_level=logging.ERROR,
                include_dashboard=False if address in ("auto", "local") else None,
            )
        except (ConnectionError, RuntimeError, ValueError, TimeoutError) as error:
            raise BackendError(f"{address}: no Ray cluster can be reached: {first_line(error)}") from error
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    for name in ("ray", "ray.data"):
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        yield ray
    finally:
        if own:
            ray.shutdown()


def in_working_folder(folder: str) -> None:
    """Make a folder the working folder of a worker, if its machine has it."""
    with suppress(OSError):
        os.chdir(folder)


def is_restarted() -> bool:
    """Whether this runs in an actor that Ray has restarted, because its process was lost."""
    ray = sys.modules.get("ray")  # each actor has imported it
    if ray is None or not ray.is_initialized():
        return False
    context = ray.get_runtime_context()
    return context.get_actor_id() is not None and bool(context.was_current_actor_reconstructed)


def plain_error(error: Exception) -> Exception:
    """Return an error that another process can read, whatever it holds."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return BackendError(str(error))
    return error
