"""The progress bar of a run, with images or frames and their speed. It is hidden if stderr is not a terminal."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any, Self

import click
from rich.console import Console
from rich.progress import (
    BarColumn,
    ProgressColumn,
    Task,
    TaskID,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
)
from rich.progress import Progress as Bars
from rich.text import Text

from gankit.cli.process import one_line
from gankit.video.progress import ClipProgress

if TYPE_CHECKING:
    from gankit.pipeline.items import Progress
    from gankit.pipeline.report import ImageReport


class _TimeLeft(ProgressColumn):
    """The time that the run still takes. Between two states of the run, it is counted down."""

    max_refresh = 0.5

    def render(self, task: Task) -> Text:
        """Return the time as ``0:01:30``."""
        left, at = task.fields["left"], task.fields["at"]
        if left is None:
            return Text("-:--:--", style="progress.remaining")
        seconds = max(0, round(left - (task.get_time() - at)))
        return Text(str(timedelta(seconds=seconds)), style="progress.remaining")


class _Count(ProgressColumn):
    """The number of images or frames that are done, of all."""

    def render(self, task: Task) -> Text:
        """Return the numbers as ``3/12``."""
        return Text(f"{task.fields['count']}/{task.fields['of']}", style="progress.download")


class Bar:
    """A progress bar on stderr that disappears when its context ends.

    Args:
        shown: whether to show the bar at all.
        console: where it appears; ``None`` for stderr.
        clock: returns seconds.
    """

    def __init__(
        self, *, shown: bool = True, console: Console | None = None, clock: Callable[[], float] = monotonic
    ) -> None:
        console = console or Console(stderr=True)
        self._clock = clock
        self._shown = shown and console.is_terminal
        self._bars = Bars(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            _Count(),
            TextColumn("{task.fields[speed]}"),
            _TimeLeft(),
            console=console,
            transient=True,
            disable=not self._shown,
            get_time=clock,
        )
        self._task: TaskID | None = None

    def update(self, state: Progress) -> None:
        """Show the state of the run. Each image counts by its pixels, and one in the engine by the part that is done.

        While a clip is processed, the bar counts its frames.
        """
        if not self._shown:
            return
        name = state.current.name if state.current else ""
        speed = f"{state.output_mp / state.seconds:.1f} MP/s" if state.output_mp and state.seconds else ""
        if isinstance(state, ClipProgress):
            speed = f"{state.frames_per_second:.1f} frames/s"
        shown: dict[str, Any] = {
            "speed": speed,
            "count": min(state.done + state.failed, state.total),
            "of": state.total,
            "left": state.seconds_left,
            "at": self._clock(),
        }
        if self._task is None:
            # Start late: lines about the choice of the engine are printed before the first image.
            self._bars.start()
            self._task = self._bars.add_task(name, total=1.0, **shown)
        self._bars.update(self._task, description=name[:40], completed=state.part, **shown)

    def print(self, line: str) -> None:
        """Print a line on stderr, above the bar if it is shown."""
        if self._task is None:
            click.echo(one_line(line), err=True)
        else:
            self._bars.console.out(one_line(line), highlight=False)

    def image(self, report: ImageReport) -> None:
        """Print the error of an image that failed."""
        if report.status == "failed":
            self.print(f"error: {report.error}")

    def file(self, source: Path | None, target: Path, status: str, error: str | None = None) -> None:
        """Print the error of a file that failed."""
        if status == "failed":
            self.print(f"error: {error}")

    def done(self, totals: Mapping[str, Any]) -> None:
        """Print nothing: the summary on stdout has the totals."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._bars.stop()


class BuildBar:
    """The progress bar of a build on stderr. It appears with the first phase and disappears when its context ends."""

    def __init__(self) -> None:
        console = Console(stderr=True)
        self._shown = console.is_terminal
        self._bars = Bars(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TaskProgressColumn(),
            TimeElapsedColumn(),
            console=console,
            transient=True,
            disable=not self._shown,
        )
        self._task: TaskID | None = None

    def update(self, phase: str, fraction: float) -> None:
        """Show the phase and the fraction that is done. Threads of a builder may call it."""
        if not self._shown:
            return
        if self._task is None:
            self._bars.start()
            self._task = self._bars.add_task(phase, total=1.0)
        self._bars.update(self._task, description=phase[:60], completed=fraction)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._bars.stop()
