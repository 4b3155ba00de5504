"""What a run reports with ``--log-format json``, in place of the progress bar."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any, Self

import click

from gankit.cli.log import JsonLog
from gankit.cli.progress import Bar

if TYPE_CHECKING:
    from gankit.pipeline.items import Progress
    from gankit.pipeline.report import ImageReport

_EVERY = 2.0  # seconds between two lines of progress


class JsonLines:
    """Writes the events of a run to a log. May be used from several threads.

    Args:
        log: the log.
        quiet: whether to write errors only.
        clock: returns seconds.
    """

    def __init__(self, log: JsonLog, *, quiet: bool = False, clock: Callable[[], float] = monotonic) -> None:
        self._log, self._quiet, self._clock = log, quiet, clock
        self._next, self._lock = 0.0, threading.Lock()

    def update(self, state: Progress) -> None:
        """Write the state of the run, if the last one is two seconds old."""
        if self._quiet:
            return
        with self._lock:
            now = self._clock()
            if now < self._next:
                return
            self._next = now + _EVERY
        left = state.seconds_left
        self._log.write(
            "progress",
            f"{state.done + state.failed} of {state.total}",
            file=state.current,
            done=state.done,
            failed=state.failed,
            total=state.total,
            part=round(state.part, 4),
            output_mp=round(state.output_mp, 6),
            seconds=round(state.seconds, 3),
            seconds_left=None if left is None else round(left, 1),
        )

    def print(self, line: str) -> None:
        """Write a notice."""
        if not self._quiet:
            self._log.write("notice", line)

    def image(self, report: ImageReport) -> None:
        """Write the report of an image or a clip."""
        seconds = report.decode_seconds + report.engine_seconds + report.encode_seconds
        self.file(report.source, report.target, report.status, report.error, seconds)

    def file(
        self, source: Path | None, target: Path, status: str, error: str | None = None, seconds: float | None = None
    ) -> None:
        """Write what became of a file.

        Args:
            source: the source; ``None`` for an image that has none.
            target: the result.
            status: as in the report.
            error: why it failed.
            seconds: the time in the decoder, the engine and the encoder; ``None`` if it was not measured.
        """
        failed = status == "failed"
        if self._quiet and not failed:
            return
        self._log.write(
            "image",
            error or f"{target}: {status}",
            level="error" if failed else "info",
            file=source or target,
            source=None if source is None else str(source),
            target=str(target),
            status=status,
            seconds=None if seconds is None else round(seconds, 6),
            error=error,
        )

    def done(self, totals: Mapping[str, Any]) -> None:
        """Write the totals of the run."""
        if not self._quiet:
            self._log.write("done", f"{totals['done']} done, {totals['failed']} failed", totals=dict(totals))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        pass


def listener(*, quiet: bool) -> Bar | JsonLines:
    """Return what shows the running command's run: JSON if the command line asks for it, or else a progress bar."""
    context = click.get_current_context(silent=True)
    log = context.find_object(JsonLog) if context is not None else None
    return Bar(shown=not quiet) if log is None else JsonLines(log, quiet=quiet)
