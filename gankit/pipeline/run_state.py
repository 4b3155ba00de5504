"""The reports and the progress of a run whose images are processed by several threads. Imports no torch."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from time import perf_counter
from typing import Any, Literal

from gankit.pipeline.items import Progress
from gankit.pipeline.report import ImageReport


class RunState:
    """Collects the reports of the images and reports the progress. May be used from several threads.

    Args:
        total: number of images.
        progress: called with the state after each change, one call at a time; ``None`` if nobody listens.
        record: called with the report of each image as soon as it is known; ``None`` if nobody listens.

    Attributes:
        reports: the reports by the number of the image.
    """

    def __init__(
        self,
        total: int,
        progress: Callable[[Progress], None] | None = None,
        record: Callable[[ImageReport], None] | None = None,
    ) -> None:
        self.reports: dict[int, ImageReport] = {}
        self._listener, self._record = progress, record
        self._state, self._began = Progress(total), perf_counter()
        self._lock, self._listener_lock = threading.Lock(), threading.Lock()

    def add(self, index: int, report: ImageReport) -> None:
        """Add the report of an image, done or failed."""
        with self._lock:
            self.reports[index] = report
            if report.status == "failed":
                self._state = replace(self._state, failed=self._state.failed + 1)
            elif report.output_size:
                pixels = report.output_size[0] * report.output_size[1]
                self._state = replace(
                    self._state, done=self._state.done + 1, output_mp=self._state.output_mp + pixels / 1e6
                )
        if self._record is not None:
            self._record(report)
        self.changed()

    def changed(self, **changes: Any) -> None:
        """Update fields of the state and report it."""
        with self._lock:
            self._state = replace(self._state, seconds=perf_counter() - self._began, **changes)
            state = self._state
        if self._listener is not None:
            with self._listener_lock:
                self._listener(state)

    @contextmanager
    def waiting(self, what: Literal["waited_to_decode", "waited_to_encode"]) -> Iterator[None]:
        """Add the seconds of a wait of the engine to the state."""
        began = perf_counter()
        yield
        with self._lock:
            self._state = replace(self._state, **{what: getattr(self._state, what) + perf_counter() - began})
