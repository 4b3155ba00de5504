"""The progress bar of ``gankit train``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

if TYPE_CHECKING:
    from gankit.training.loop import Progress as State


@contextmanager
def progress(steps: int, *, quiet: bool) -> Iterator[Callable[[State], None]]:
    """A bar with losses, steps a second and the time left; a line for each validation, and for a resumed run."""
    console = Console(stderr=True)
    bar = Progress(
        TextColumn("step"),
        MofNCompleteColumn(),
        BarColumn(),
        TextColumn("{task.fields[text]}"),
        TimeRemainingColumn(),
        console=console,
        disable=quiet or not console.is_terminal,
        refresh_per_second=2,
    )
    with bar:
        task = bar.add_task("", total=steps, text="")

        told = False

        def notify(state: State) -> None:
            nonlocal told
            if state.began and not told and not quiet:
                bar.console.print(f"resumed at step {state.began}")
            told = True
            losses = " ".join(f"{name} {value:.4f}" for name, value in state.losses.items())
            bar.update(task, completed=state.step, text=f"{losses}  {state.rate:.2f} step/s")
            if state.validation and not quiet:
                bar.console.print(f"step {state.step}: {state.validation['score']:.3f} dB on the validation pictures")

        yield notify
