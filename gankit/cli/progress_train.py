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


@contextmanager
def progress(steps: int, *, batch: int, unit: str = "", quiet: bool) -> Iterator[Callable[[State], None]]:
    """A bar with losses, steps and images a second, and the time left; a line for each validation.

    Where stderr is no terminal there is a line every half a minute in place of the bar.

    Args:
        steps: the last step.
        batch: items in a step, on each device.
        unit: of the score.
        quiet: show nothing.
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
    with bar:
        task = bar.add_task("", total=steps, text="")
        reported, last = False, time.monotonic()

        def tell(text: str) -> None:
            if not quiet:
                bar.console.print(text, markup=False, highlight=False)

        def notify(state: State) -> None:
            nonlocal reported, last
            if not reported:
                reported = True
                if state.began:
                    tell(f"resumed at step {state.began}")
                if state.processes > 1:
                    tell(f"{state.processes} processes with a batch of {batch}: {state.processes * batch} in a step")
            losses = " ".join(f"{name} {value:.4f}" for name, value in state.losses.items())
            images = state.rate * batch * state.processes
            text = f"{losses}  {state.rate:.2f} step/s  {images:.0f} images/s"
            bar.update(task, completed=state.step, text=text)
            if not console.is_terminal and time.monotonic() - last > _SECONDS:
                last = time.monotonic()
                left = timedelta(seconds=round((steps - state.step) / state.rate)) if state.rate else "?"
                tell(f"step {state.step} of {steps}: {text}  {left} left")
            if state.validation:
                tell(f"step {state.step}: {_judged(state, unit)}")

        yield notify


def _judged(state: State, unit: str) -> str:
    values = dict(state.validation)
    first = f"{values.pop('score'):.3f} {unit} on the validation images" if unit and "score" in values else ""
    return ", ".join([*([first] if first else []), *(f"{name} {value:.4g}" for name, value in values.items())])
