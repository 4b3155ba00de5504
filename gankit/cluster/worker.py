"""A worker of a cluster: it opens one engine, and does tasks until there are no more."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING, Any

from gankit.cluster.ray_data import RESULT, TASK, in_working_folder, is_restarted, plain_error
from gankit.pipeline.report import EngineReport, ModelReport, Waits
from gankit.pipeline.run_options import RunOptions
from gankit.storage.group import Busy, Result, Task
from gankit.storage.work import run_tasks

if TYPE_CHECKING:
    from gankit.pipeline.file_pipeline import FilePipeline


@dataclass(frozen=True)
class Done:
    """What became of a block.

    Attributes:
        results: the results.
        left: the tasks whose results another run has claimed.
        busy: how long the block took, including the time for which the worker has waited for it.
        engines: reports of the engine, of that for images of more than 8 bits, and of the model.
    """

    results: Sequence[Result]
    left: Sequence[Task]
    busy: Busy
    engines: tuple[EngineReport | None, EngineReport | None, ModelReport | None]


class Worker:
    """Does blocks of tasks. Ray Data makes one for each actor of its pool.

    A block whose worker is lost is not done twice: results that appeared since the run began are left alone. In an
    actor that Ray has restarted, they count as done, because its lost process may have made them, and elsewhere as made
    by another run. A claim in a store says which of both it is.

    Args:
        make: makes the pipeline. The first block opens its engine.
        options: the options of the run.
        folder: working folder of the run, to which relative paths of weights refer.
    """

    def __init__(self, make: Callable[[], FilePipeline], options: RunOptions, folder: str) -> None:
        in_working_folder(folder)
        self._make, self._options = make, options
        self._pipeline: FilePipeline | None = None
        self._retries = is_restarted()
        self._ended: float | None = None  # when the last block was done

    def __call__(self, block: Mapping[str, Any]) -> dict[str, list[bytes]]:
        """Do the tasks of a block.

        Args:
            block: column ``"task"`` with pickled tasks.

        Returns:
            Column ``"result"`` with a pickled :class:`Done`, or an exception that concerns the whole run.
        """
        tasks: list[Task] = [pickle.loads(item) for item in block[TASK]]
        results: list[Result] = []
        left: list[Task] = []
        idle = 0.0 if self._ended is None else perf_counter() - self._ended
        try:
            if self._pipeline is None:
                self._pipeline = self._make()
            busy = run_tasks(
                self._pipeline, tasks, self._options, results.append, check=self._retries, left=left.append
            )
        except Exception as error:
            return {RESULT: [pickle.dumps(plain_error(error))]}
        engine = self._pipeline.engines
        seen = (engine.report(), engine.exact_report(), engine.model_report())
        self._ended = perf_counter()
        return {RESULT: [pickle.dumps(Done(results, left, busy + Busy(idle, Waits(idle, 0.0)), seen))]}
