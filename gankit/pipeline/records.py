"""What is known of each image at any moment, so that a run that is cut short can tell it too. Imports no torch."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

from gankit.pipeline.inputs import Inputs
from gankit.pipeline.report import ImageReport


class Records:
    """The reports of one run, from any thread.

    Args:
        found: the run's jobs, and the folders that could not be listed: they have failed already.
        output: folder of the results.
        failed: called with each report of a failure, one call at a time.
    """

    def __init__(self, found: Inputs, output: Path, failed: Callable[[ImageReport], None] | None) -> None:
        self._found = found
        self._failed = failed
        self._known: dict[Path, ImageReport] = {}
        self._lock = threading.Lock()
        for error in found.unreadable:
            self.add(ImageReport(error.path, output, "failed", error=str(error)))

    def add(self, report: ImageReport) -> None:
        """Take a report in."""
        with self._lock:
            self._known[report.source] = report
            if self._failed and report.status == "failed":
                self._failed(report)

    def images(self) -> tuple[ImageReport, ...]:
        """A report for each job, ``"left"`` where there is none yet, then one for each folder."""
        jobs, folders = self._found.jobs, self._found.unreadable
        known = [self._known.get(job.source) or ImageReport(job.source, job.target, "left") for job in jobs]
        return (*known, *(self._known[error.path] for error in folders))
