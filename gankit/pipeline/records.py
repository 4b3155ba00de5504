"""The state of each image at any moment, so that an interrupted run can report it as well. Imports no torch."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

from gankit.pipeline.inputs import Inputs
from gankit.pipeline.report import ImageReport


class Records:
    """Collects the reports of one run from any thread.

    Args:
        found: the jobs of the run, and the folders that could not be listed, which count as failed.
        output: folder of the results.
        failed: called with the report of each failure, one call at a time.
        notify: called with a line for each note of an image, one call at a time.
        again: what changed since the earlier result, by source, for the images that are done again.
        each: called with every report, one call at a time.
    """

    def __init__(
        self,
        found: Inputs,
        output: Path,
        failed: Callable[[ImageReport], None] | None,
        notify: Callable[[str], None] | None = None,
        again: Mapping[Path, str] = MappingProxyType({}),
        each: Callable[[ImageReport], None] | None = None,
    ) -> None:
        self._found = found
        self._failed, self._notify, self._again, self._each = failed, notify, again, each
        self._known: dict[Path, ImageReport] = {}
        self._lock = threading.Lock()
        for error in found.unreadable:
            self.add(ImageReport(error.path, output, "failed", error=str(error)))

    def add(self, report: ImageReport) -> None:
        """Add a report."""
        if report.status == "done" and report.source in self._again:
            report = replace(report, again=self._again[report.source])
        with self._lock:
            self._known[report.source] = report
            if self._notify:
                for note in report.notes:
                    self._notify(f"{report.source}: {note}")
            if self._each:
                self._each(report)
            if self._failed and report.status == "failed":
                self._failed(report)

    def images(self) -> tuple[ImageReport, ...]:
        """Return a report for each job, ``"left"`` if there is none yet, followed by one for each failed folder."""
        jobs, folders = self._found.jobs, self._found.unreadable
        known = [self._known.get(job.source) or ImageReport(job.source, job.target, "left") for job in jobs]
        return (*known, *(self._known[error.path] for error in folders))
