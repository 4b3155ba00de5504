"""How much of a run is done, by the pixels of its images rather than by their number. Imports no torch."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from math import prod
from pathlib import Path

from gankit.pipeline.items import Progress
from gankit.pipeline.report import ImageReport
from gankit.pipeline.targets import Job
from gankit.pipeline.workload import declared_pixels

_HEADERS = 1000  # files whose headers are read before the run; at most a few milliseconds each
_FILE_MP = 0.01  # opening and writing a file takes the time of about so many megapixels, however small the image is


class Pixels:
    """Adds the megapixels that are done, and those of the whole run, to the progress of the run.

    The headers of up to 1000 files, spread over the run, give the sizes of their images. Every other image counts with
    the average until it is done, when its report gives its size. A failed image counts as an empty one, because it
    takes hardly any time. May be used from several threads.

    Args:
        jobs: the images of the run.
        several: whether all frames of a source are processed; otherwise only the first one is.
    """

    def __init__(self, jobs: Sequence[Job], several: Callable[[Job], bool] = lambda job: False) -> None:
        self._lock = threading.Lock()
        self._count = len(jobs)
        self._known: dict[Path, float] = {}
        self._parts: dict[Path, float] = {}  # images that have entered the engine and have no report yet
        self._reported: set[Path] = set()
        step = max(1, -(-len(jobs) // _HEADERS))
        for job in jobs[::step]:
            pixels = declared_pixels(job.source, frames=several(job))
            if pixels is not None:
                self._known[job.source] = pixels / 1e6 + _FILE_MP
        self._sum, self._done = sum(self._known.values()), 0.0

    def add(self, report: ImageReport) -> None:
        """Count an image as done or failed."""
        weight = weight_of(report)
        with self._lock:
            self._parts.pop(report.source, None)
            if report.source in self._reported:
                return
            self._reported.add(report.source)
            self._sum += weight - self._known.get(report.source, 0.0)
            self._known[report.source] = weight
            self._done += weight

    def of(self, state: Progress) -> Progress:
        """Return the state of the run with ``done_mp`` and ``total_mp``."""
        with self._lock:
            average = self._sum / len(self._known) if self._known else 1.0
            if state.current is not None and state.current not in self._reported:
                # Another image in the engine does not undo what was done of the last one, which waits to be written.
                self._parts[state.current] = max(state.fraction, self._parts.get(state.current, 0.0))
            entered = sum(self._known.get(path, average) * part for path, part in self._parts.items())
            total = self._sum + average * max(0, self._count - len(self._known))
            return replace(state, done_mp=min(self._done + entered, total), total_mp=total)


def weight_of(report: ImageReport) -> float:
    """Return the megapixels as which an image counts that is done or failed."""
    size = report.input_size if report.status == "done" and report.input_size else (0,)
    return report.frames * prod(size) / 1e6 + _FILE_MP
