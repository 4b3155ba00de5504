"""Share the work of a run with other runs that write to the same folders. Imports no torch."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from time import sleep

from gankit.pipeline.folder_claims import FolderClaims
from gankit.pipeline.report import ImageReport
from gankit.pipeline.resume import Resume, with_comparison
from gankit.pipeline.targets import Job

_POLL = 0.2  # seconds between two looks at what other runs have claimed


@dataclass
class Sharing:
    """Claims jobs, and keeps those that other runs have claimed. May be used from several threads.

    Attributes:
        resume: keeps the journals.
        claims: the claims of this run; ``None`` if no other run can write to the folders.
        record: called with the report of each image that another run has made.
        compare: whether results need comparisons beside them.
    """

    resume: Resume
    claims: FolderClaims | None
    record: Callable[[ImageReport], None]
    compare: bool = False
    _others: list[Job] = field(default_factory=list, init=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False)

    def claim(self, job: Job) -> bool:
        """Claim a job. Return whether to run it now: no other run is at it, or has done it since this run began.

        Raises:
            OutputError: If a link leads out of the output folder.
        """
        if self.claims is None:
            return True
        if not self.claims.take(job.target):
            with self._lock:
                self._others.append(job)
            return False
        decision = self.resume.decide_again(job)
        if decision is None:
            return True
        if self.compare:
            decision = with_comparison(decision)
        if not decision.run:
            self.claims.release(job.target)
            self.record(ImageReport(job.source, job.target, "skipped" if decision.up_to_date else "kept"))
        return decision.run

    def release(self, target: Path) -> None:
        """Give up the claim on a result that is made or has failed."""
        if self.claims is not None:
            self.claims.release(target)

    def after_others(self, notify: Callable[[str], None] | None) -> list[Job]:
        """Wait for the results that other runs have claimed. Return the jobs that they have left undone, claimed.

        Args:
            notify: called with a line if there is anything to wait for.
        """
        said = False
        while self._others:
            waiting, self._others = self._others, []
            free = [job for job in waiting if self.claim(job)]
            if free:
                return free
            if not self._others:
                break
            if notify is not None and not said:
                count = len(self._others)
                results = "a result that another run is" if count == 1 else f"{count} results that other runs are"
                notify(f"waiting for {results} making")
            said = True
            sleep(_POLL)
        return []
