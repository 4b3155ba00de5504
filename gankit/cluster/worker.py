"""A worker of a cluster: it opens one engine, and does tasks until there are no more."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from gankit.cluster.ray_data import RESULT, TASK, in_working_folder, plain_error
from gankit.pipeline.run_options import RunOptions
from gankit.storage.group import Result, Task
from gankit.storage.work import run_tasks

if TYPE_CHECKING:
    from gankit.pipeline.images import ImagePipeline


class Worker:
    """Does blocks of tasks. Ray Data makes one for each actor of its pool.

    A block that Ray hands to another worker, because the first one is lost, is not done twice: results that appeared
    since the run began are left alone.

    Args:
        make: makes the pipeline. The first block opens its engine.
        options: the options of the run.
        folder: working folder of the run, to which relative paths of weights refer.
    """

    def __init__(self, make: Callable[[], ImagePipeline], options: RunOptions, folder: str) -> None:
        in_working_folder(folder)
        self._make, self._options = make, options
        self._pipeline: ImagePipeline | None = None

    def __call__(self, block: Mapping[str, Any]) -> dict[str, list[bytes]]:
        """Do the tasks of a block.

        Args:
            block: column ``"task"`` with pickled tasks.

        Returns:
            Column ``"result"`` with as many pickled results, or one exception that concerns the whole run.
        """
        tasks: list[Task] = [pickle.loads(item) for item in block[TASK]]
        results: list[Result] = []
        try:
            if self._pipeline is None:
                self._pipeline = self._make()
            run_tasks(self._pipeline, tasks, self._options, results.append, check=True)
        except Exception as error:
            return {RESULT: [pickle.dumps(plain_error(error))]}
        engine = self._pipeline.engines
        seen = (engine.report(), engine.exact_report(), engine.model_report())
        return {RESULT: [pickle.dumps((result, seen)) for result in results]}
