"""The progress bar of a run, with images or frames and their speed. It is hidden if stderr is not a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

import click
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    TaskID,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as Bars

from gankit.cli.process import one_line
from gankit.video.progress import ClipProgress

if TYPE_CHECKING:
    from gankit.pipeline.items import Progress


class Bar:
    """A progress bar on stderr that disappears when its context ends.

    Args:
        shown: whether to show the bar at all.
    """

    def __init__(self, *, shown: bool = True) -> None:
        console = Console(stderr=True)
        self._shown = shown and console.is_terminal
        self._bars = Bars(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[speed]}"),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=not self._shown,
        )
        self._task: TaskID | None = None
        self._name = ""

    def update(self, state: Progress) -> None:
        """Show the state of the run. The image in the engine counts by the fraction that is done.

        While a clip is processed, the bar counts its frames.
        """
        if not self._shown:
            return
        name = state.current.name if state.current else ""
        speed = f"{state.output_mp / state.seconds:.1f} MP/s" if state.output_mp and state.seconds else ""
        if isinstance(state, ClipProgress):
            speed = f"{state.frames_per_second:.1f} frames/s"
        if self._task is None:
            # Start late: lines about the choice of the engine are printed before the first image.
            self._bars.start()
            self._task = self._bars.add_task(name, total=state.total, speed=speed)
        # Slightly less than 1, because an image counts as done only once it is written.
        over = state.done + state.failed + 0.99 * state.fraction
        if name != self._name and isinstance(state, ClipProgress):
            self._bars.reset(self._task, total=state.total)  # the time left is that of this clip
        self._name = name
        done = min(over, state.total)
        self._bars.update(self._task, description=name[:40], total=state.total, completed=done, speed=speed)

    def print(self, line: str) -> None:
        """Print a line on stderr, above the bar if it is shown."""
        if self._task is None:
            click.echo(one_line(line), err=True)
        else:
            self._bars.console.out(one_line(line), highlight=False)

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
