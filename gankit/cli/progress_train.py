"""The progress bar of ``gankit train``."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

if TYPE_CHECKING:
    from gankit.training.loop import Progress as State

_SECONDS = 30.0  # between the lines of a log
_REFRESH = 0.5  # seconds between two readings of the losses, each of which waits for the device


@contextmanager
def progress(steps: int, *, batch: int, unit: str = "", quiet: bool) -> Iterator[Callable[[State], None]]:
    """Show a bar with losses, steps and images per second, and the time left, and a line for each validation.

    If stderr is not a terminal, a line every 30 seconds replaces the bar.

    Args:
        steps: number of the last step.
        batch: samples per step on each device.
        unit: unit of the score.
        quiet: whether to show nothing.
    """
    console = Console(stderr=True, soft_wrap=True)
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
    pause = _REFRESH if console.is_terminal else _SECONDS
    with bar:
        task = bar.add_task("", total=steps, text="")
        reported, last = False, time.monotonic()

        def print_line(text: str) -> None:
            if not quiet:
                bar.console.print(text, markup=False, highlight=False)

        def notify(state: State) -> None:
            nonlocal reported, last
            if not reported:
                reported = True
                if state.began:
                    print_line(f"resumed at step {state.began}")
                if state.processes > 1:
                    print_line(
                        f"{state.processes} processes with a batch of {batch}: {state.processes * batch} samples a step"
                    )
            bar.update(task, completed=state.step)
            if not quiet and time.monotonic() - last > pause:
                last = time.monotonic()
                text = _speed(state, batch)
                bar.update(task, text=text)
                if not console.is_terminal:
                    left = timedelta(seconds=round((steps - state.step) / state.rate)) if state.rate else "?"
                    print_line(f"step {state.step} of {steps}: {text}  {left} left")
            if state.validation:
                print_line(f"step {state.step}: {_validation(state, unit)}")

        yield notify


def _speed(state: State, batch: int) -> str:
    """Format the losses, steps per second and images per second."""
    losses = " ".join(f"{name} {value:.4f}" for name, value in state.losses.items())
    return f"{losses}  {state.rate:.2f} step/s  {state.rate * batch * state.processes:.0f} images/s"


def _validation(state: State, unit: str) -> str:
    values = dict(state.validation)
    first = f"{values.pop('score'):.3f} {unit} on the validation images" if unit and "score" in values else ""
    return ", ".join([*([first] if first else []), *(f"{name} {value:.4g}" for name, value in values.items())])
