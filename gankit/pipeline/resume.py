"""Decide what a run has to do: what is new, what changed since its result was made, and what to leave. No torch.

An existing result is up to date if the journal of its folder has the same source, weights and options. The source is
the same if its size and modification time are, so that skipping reads no file. If only the time or the path differ,
the sha256 decides.

The options that count are those that the user chose and that decide pixels: backend, precision, direction, norm, model
options, facts of an own module, and how the file is written. Device, tile, batch, threads and memory limit only decide
how the work is cut up, and every engine passes the same parity check. The journal records them, and the version of
gankit, without comparing them: a new version that changed the pixels of a model would otherwise make every result of
a library again. One line says how many results are of another version.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from gankit.errors import OutputError
from gankit.pipeline.folder_claims import FolderClaims, remove_unused
from gankit.pipeline.journal import Entry, Journal, State, sha256_of, state_of
from gankit.pipeline.output import check_inside
from gankit.pipeline.paths import exists
from gankit.pipeline.targets import Job, comparison_of
from gankit.version import __version__

Action = Literal["new", "again", "skip", "keep"]
Change = Literal["source", "model", "option"]
_RACY_SECONDS = 2.0  # coarsest resolution of a file system's times


@dataclass(frozen=True)
class Decision:
    """What to do with one job.

    Attributes:
        job: the job.
        action: ``"new"`` if there is no result, ``"again"`` if the result is replaced, ``"skip"`` if it is up to date,
            or ``"keep"`` if gankit did not make the file in its place.
        change: why the result is made again; ``None`` also if the user asked for it.
        confirmed: new entry for the journal, if a sha256 had to be compared and is the same.
        older: version of gankit that made a result that is skipped, if it is not this one.
    """

    job: Job
    action: Action
    change: Change | None = None
    confirmed: Entry | None = None
    older: str | None = None

    @property
    def run(self) -> bool:
        """Whether to run the job."""
        return self.action in ("new", "again")

    @property
    def up_to_date(self) -> bool:
        """Whether the existing result is what the run would make."""
        return self.action == "skip"


class Resume:
    """Compares the results of a run with their journals, and keeps the journals. May be used from several threads.

    Args:
        model: returns the sha256 of the weights. It is called only if a result exists or is written.
        options: returns the options that determine a result and are not at their defaults.
        roots: the output folders, out of which no link is followed.
    """

    def __init__(
        self, model: Callable[[], str], options: Callable[[Path], Mapping[str, Any]], roots: Sequence[Path] = ()
    ) -> None:
        self._model, self._options, self._roots = model, options, tuple(roots)
        self._journals: dict[Path, Journal] = {}
        self._read: dict[Path, Entry] = {}
        self._before: dict[Path, State | None] = {}  # the results when it was decided about them
        self._lock = threading.Lock()

    def decide(self, jobs: Iterable[Job], *, overwrite: bool = False) -> list[Decision]:
        """Decide about each job, without decoding or writing anything.

        Args:
            jobs: the jobs.
            overwrite: whether to replace every result.
        """
        return [self._decide(job, overwrite) for job in jobs]

    def _decide(self, job: Job, overwrite: bool) -> Decision:
        now = self._before[job.target] = state_of(job.target)
        if now is None:
            return Decision(job, "new")
        if overwrite:
            return Decision(job, "again")
        entry = self._journal(job.target.parent).maker(job.target.name, now)
        if entry is None:
            return Decision(job, "keep")
        if entry.model != self._model():
            return Decision(job, "again", "model")
        if entry.options != self._options(job.target):
            return Decision(job, "again", "option")
        began, state, source = time.time(), state_of(job.source), _absolute(job.source)
        if state is None:
            return Decision(job, "again", "source")  # reported when it is decoded
        version = str(entry.made_by.get("gankit", __version__))
        older = None if version == __version__ else version
        copied = entry.written is not None and not now.near(entry.written)
        if state == entry.source_state and source == entry.source and entry.read - state.mtime_ns / 1e9 > _RACY_SECONDS:
            return Decision(job, "skip", confirmed=entry if copied else None, older=older)
        if not entry.sha256 or state.size != entry.source_state.size or sha256_of(job.source) != entry.sha256:
            return Decision(job, "again", "source")
        same = replace(entry, source=source, source_state=state, read=began)
        return Decision(job, "skip", confirmed=same, older=older)

    def before(self, job: Job) -> State | None:
        """Return the state of a result when it was decided about it; ``None`` if there was none."""
        return self._before.get(job.target)

    def decide_again(self, job: Job) -> Decision | None:
        """Decide about a job whose result another run has made or removed since; ``None`` if it is as it was."""
        if state_of(job.target) == self._before.get(job.target):
            return None
        self._journal(job.target.parent).update()
        return self._decide(job, overwrite=False)

    def claims(self) -> FolderClaims | None:
        """Return the claims of this run on its results; ``None`` if no other run can write to their folders."""
        return FolderClaims(self._roots)

    def confirm(self, decisions: Iterable[Decision]) -> None:
        """Write to the journals which sources are the same, so that the next run need not read them again.

        Raises:
            OutputError: If a link leads from an output folder to that of a result.
        """
        decisions = list(decisions)
        written = {each.job.target.parent for each in decisions if each.run or each.confirmed is not None}
        for folder in written:
            check_inside(folder, self._roots)
        for folder in {each.job.target.parent for each in decisions}:
            with suppress(OutputError):  # a link that leads elsewhere
                check_inside(folder, self._roots)
                remove_unused(folder)
        for decision in decisions:
            if decision.confirmed is not None:
                with suppress(OutputError):  # a result that is only read may be in a folder that is only read
                    self._journal(decision.job.target.parent).finish(decision.confirmed)

    def before_reading(self, source: Path) -> None:
        """Note the state of a source. Call it before the source is decoded."""
        state = state_of(source) or State(-1, 0)
        entry = Entry("", _absolute(source), state, "", time.time(), "")
        with self._lock:
            self._read[source] = entry

    def after_reading(self, source: Path) -> None:
        """Note the sha256 of a source that was decoded, unless it changed meanwhile."""
        digest = sha256_of(source)
        with self._lock:
            if state_of(source) == self._read[source].source_state:
                self._read[source] = replace(self._read[source], sha256=digest)

    def begin(self, job: Job, made_by: Mapping[str, Any] = MappingProxyType({})) -> None:
        """Write to the journal that a result is about to be written. Its folder exists.

        Args:
            job: the job.
            made_by: the engine that made the result.

        Raises:
            OutputError: If the journal cannot be written, or a link leads out of the output folder.
        """
        check_inside(job.target.parent, self._roots)
        self._journal(job.target.parent).begin(self._entry(job, made_by))

    def announce(self, job: Job) -> None:
        """Write to the journal that this run or another one is going to write a result. Its folder exists.

        Args:
            job: the job, about which it was decided.

        Raises:
            OutputError: As for :meth:`begin`.
        """
        check_inside(job.target.parent, self._roots)
        entry = replace(self._entry(job, {}), before=self.before(job), written=None)
        self._journal(job.target.parent).add(entry)

    def finish(self, job: Job, made_by: Mapping[str, Any] = MappingProxyType({})) -> None:
        """Write to the journal that a result was written.

        Args:
            job: the job.
            made_by: as for :meth:`begin`.

        Raises:
            OutputError: If the journal cannot be written.
        """
        self._journal(job.target.parent).finish(self._entry(job, made_by))

    def _entry(self, job: Job, made_by: Mapping[str, Any]) -> Entry:
        with self._lock:
            read = self._read[job.source]
        return replace(
            read,
            result=job.target.name,
            model=self._model(),
            options=self._options(job.target),
            made_by={"gankit": __version__, **made_by},
        )

    def _journal(self, folder: Path) -> Journal:
        with self._lock:
            if folder not in self._journals:
                self._journals[folder] = Journal(folder)
            return self._journals[folder]


def _absolute(path: Path) -> str:
    return os.path.abspath(path)  # noqa: PTH100 - resolves no links, reads nothing


def with_comparison(decision: Decision) -> Decision:
    """Make a result again that is up to date, but has no comparison beside it."""
    if decision.up_to_date and not exists(comparison_of(decision.job.target)):
        return replace(decision, action="again", confirmed=None)
    return decision
