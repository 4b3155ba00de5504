"""The one thread that runs engines, and the requests that wait for it.

An engine uses all cores or the whole GPU, so engines run one at a time. The oldest request runs next, and with it those
requests for the same generator whose images can share its call: which and how many is what the pipeline says of the
images of a folder (:meth:`gankit.pipeline.engines.Engines.batch_key`).
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

from gankit.images import DecodedImage
from gankit.pipeline.engines import Engines
from gankit.pipeline.images import ImagePipeline
from gankit.pipeline.run_given import run_each
from gankit.pipeline.sampler import Sampler
from gankit.pipeline.shared_calls import IMAGE_ERRORS
from gankit.serving.metrics import Metrics
from gankit.serving.pipelines import Generator, Pipelines

_SMOOTHING = 0.2  # of the seconds for each request, from which clients learn when to try again


@dataclass(eq=False)
class Task:
    """What a request asks of a generator: to run an image, or to sample.

    Attributes:
        generator: the generator.
        image: the image to run; ``None`` for a sampler.
        sample: called with the sampler; ``None`` for an image.
        future: the result, a ``DecodedImage`` or what ``sample`` returns.
        queued: when it was submitted.
        waited: seconds from then until its engine was ready.
        engine_seconds: seconds of its engine run.
        batch: number of requests that shared the run.
        engine: the engine, such as ``"openvino bf16 (cpu)"``.
    """

    generator: Generator
    image: DecodedImage | None = None
    sample: Callable[[Sampler], Any] | None = None
    future: Future[Any] = field(default_factory=Future)
    queued: float = field(default_factory=perf_counter)
    waited: float = 0.0
    engine_seconds: float = 0.0
    batch: int = 0
    engine: str = ""


class EngineRoom:
    """Runs tasks in a thread of its own.

    Args:
        pipelines: the generators.
        wait: longest time in seconds to wait for images that share a call.
    """

    def __init__(self, pipelines: Pipelines, wait: float) -> None:
        self._pipelines, self._wait = pipelines, wait
        self._condition = threading.Condition()
        self._tasks: deque[Task] = deque()
        self._closing = False
        self._seconds = 1.0
        self._thread = threading.Thread(target=self._run, name="gankit-engines", daemon=True)
        self.metrics: Metrics | None = None
        self.expected: Callable[[], int] = lambda: 0
        """Returns the number of requests in flight; there is nobody to wait for if all of them are here."""

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread.is_alive()

    @property
    def waiting(self) -> int:
        """Number of tasks that wait."""
        return len(self._tasks)

    def delay(self) -> float:
        """Return about how many seconds the tasks that wait will take."""
        return self._seconds * (len(self._tasks) + 1)

    def submit(self, task: Task) -> None:
        """Queue a task. Its future gets the result or the error; a future that was cancelled is left out."""
        with self._condition:
            if self._closing:
                raise RuntimeError("the engine room is closed")
            self._tasks.append(task)
            self._condition.notify_all()

    def close(self) -> None:
        """Run what waits, close the generators and end the thread."""
        with self._condition:
            self._closing = True
            self._condition.notify_all()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        while True:
            with self._condition:
                self._condition.wait_for(lambda: self._tasks or self._closing)
                if not self._tasks:
                    break
                task = self._tasks.popleft()
            if task.future.set_running_or_notify_cancel():
                self._together(task)
            del task  # the last image must not stay alive while nothing runs
        self._pipelines.close()

    def _together(self, first: Task) -> None:
        """Run a task, with those that share its call."""
        group = [first]
        try:
            pipeline = self._pipelines.get(first.generator)
            if isinstance(pipeline, Sampler):
                self._sample(first, pipeline)
                return
            group = self._group(first, pipeline.engines)
            began = perf_counter()
            self._images(group, pipeline)
            self._count(group, began, _describe(pipeline))
        except BaseException as error:
            for task in group:
                if not task.future.done():
                    task.future.set_exception(error)

    def _sample(self, task: Task, sampler: Sampler) -> None:
        assert task.sample is not None
        began = perf_counter()
        result = task.sample(sampler)
        engine = sampler.start()
        self._count([task], began, f"{engine.backend} {engine.precision} ({engine.device})")
        task.future.set_result(result)

    def _images(self, group: list[Task], pipeline: ImagePipeline) -> None:
        """Run images that share a call, each alone if that fails, and complete their futures."""
        images = [task.image for task in group if task.image is not None]
        began = perf_counter()
        try:
            results = run_each(pipeline.engines, images)
        except IMAGE_ERRORS as error:
            if len(group) == 1:
                raise
            del error
            for task in group:
                try:
                    self._images([task], pipeline)
                except IMAGE_ERRORS as alone:
                    task.future.set_exception(alone)
            return
        for task, result in zip(group, results, strict=True):
            task.waited, task.engine_seconds, task.batch = began - task.queued, perf_counter() - began, len(group)
            task.engine = _describe(pipeline)
            task.future.set_result(result)

    def _group(self, first: Task, engines: Engines) -> list[Task]:
        """Return a task with those that can share its call; wait a little for more while there are others."""
        assert first.image is not None
        key, most = engines.batch_key(first.image)
        group, until = [first], perf_counter() + self._wait
        with self._condition:
            while True:
                for task in [task for task in self._tasks if len(group) < most and _alike(task, first)]:
                    if task.image is not None and engines.batch_key(task.image)[0] == key and len(group) < most:
                        self._tasks.remove(task)
                        if task.future.set_running_or_notify_cancel():
                            group.append(task)
                left = until - perf_counter()
                if len(group) >= most or left <= 0 or self.expected() <= len(group) + len(self._tasks):
                    return group
                self._condition.wait(left)

    def _count(self, group: list[Task], began: float, engine: str) -> None:
        seconds = perf_counter() - began
        for task in group:
            if not task.batch:
                task.waited, task.engine_seconds, task.batch = began - task.queued, seconds, len(group)
                task.engine = engine
        self._seconds += _SMOOTHING * (seconds / len(group) - self._seconds)
        if self.metrics is not None:
            waited = [task.waited for task in group]
            self.metrics.engine(group[0].generator.served.name, len(group), seconds, waited)


def _alike(task: Task, first: Task) -> bool:
    """Whether a task may share the call of another: the same generator and the same size and depth of the image."""
    if task.generator != first.generator or task.image is None or first.image is None:
        return False
    one, other = task.image.pixels, first.image.pixels
    return one.shape == other.shape and one.dtype == other.dtype


def _describe(pipeline: ImagePipeline) -> str:
    report = pipeline.engines.report()
    return "" if report is None else f"{report.backend} {report.precision} ({report.device})"
