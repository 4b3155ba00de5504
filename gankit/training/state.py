"""What a run keeps on disk: the checkpoint that continues it exactly, and its log."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from gankit.errors import CheckpointError, OutputError

if TYPE_CHECKING:
    from gankit.training.loop import Progress, System
    from gankit.training.optimisers import Average

_COLUMNS = ("step", "name", "value")


@contextmanager
def _whole(path: Path) -> Iterator[Path]:
    """A temporary file that takes the place of ``path`` when the block is left without an error.

    Raises:
        OutputError: it cannot be written.
    """
    temporary = path.with_name(f".{path.name}.part")
    try:
        yield temporary
        os.replace(temporary, path)  # noqa: PTH105 - whole or not at all
    except (OSError, RuntimeError) as error:  # torch.save says RuntimeError where the disk is full
        reason = getattr(error, "strerror", None) or error
        raise OutputError(f"{path}: cannot be written: {reason}") from error
    finally:
        temporary.unlink(missing_ok=True)


def save_checkpoint(
    path: Path, system: System, average: Average | None, step: int, best: Mapping[str, float], log: Log
) -> None:
    """Write everything that is needed to go on; the file appears whole or not at all.

    Raises:
        OutputError: it cannot be written.
    """
    content = {
        "step": step,
        "best": dict(best),
        "modules": {name: module.state_dict() for name, module in system.modules.items()},
        "optimisers": {name: optimiser.state_dict() for name, optimiser in system.optimisers.items()},
        "average": None if average is None else {"state": average.state, "updates": average.updates},
        "rng": torch.get_rng_state(),
        "cuda_rng": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "log": log.state_dict(),
    }
    with _whole(path) as temporary:
        torch.save(content, temporary)


def restore_checkpoint(path: Path, system: System, average: Average | None, log: Log) -> tuple[int, dict[str, float]]:
    """Put a run back to where its checkpoint was written.

    Returns:
        The steps done, and the best validation so far.

    Raises:
        CheckpointError: the file is damaged, or of a run with other networks or options.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises whatever a broken pickle or zip leads to
        raise CheckpointError(
            f"{path}: cannot be read ({type(error).__name__}): choose another folder, or delete it to begin anew"
        ) from error
    try:
        if set(content["modules"]) != set(system.modules):
            raise ValueError(f"it has {', '.join(content['modules'])}")
        for name, module in system.modules.items():
            module.load_state_dict(content["modules"][name])
        for name, optimiser in system.optimisers.items():
            optimiser.load_state_dict(content["optimisers"][name])
        if average is not None:
            stored = content["average"] or {"state": system.generator.state_dict(), "updates": 0}
            for name, value in stored["state"].items():
                average.state[name].copy_(value)
            average.updates = stored["updates"]
        torch.set_rng_state(content["rng"])
        if torch.cuda.is_available() and len(content["cuda_rng"]) == torch.cuda.device_count():
            torch.cuda.set_rng_state_all(content["cuda_rng"])
        log.load_state_dict(content.get("log", {}))
        return int(content["step"]), dict(content["best"])
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        first = str(error).splitlines()[-1].strip()
        raise CheckpointError(f"{path}: of another run: resume with the options it was begun with ({first})") from error


class Log:
    """``log.csv``: one line every few steps with the mean of each loss since, and one for each validation.

    Args:
        path: the file.
        every: steps between lines.
    """

    def __init__(self, path: Path, every: int = 10) -> None:
        self._path, self._every = path, every
        self._sums: dict[str, list[float]] = {}  # name -> total and count

    def begin(self, step: int) -> None:
        """Drop what an earlier run wrote after ``step``, or make a new file.

        Raises:
            OutputError: it cannot be written.
        """
        rows: list[list[str]] = []
        if self._path.exists():
            with self._path.open(newline="", encoding="utf-8") as file:
                found = [row for row in csv.reader(file) if len(row) == len(_COLUMNS) and row[0].isdecimal()]
            rows = [row for row in found if int(row[0]) <= step]
        with _whole(self._path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([_COLUMNS, *rows])

    def write(self, progress: Progress) -> None:
        """Take in one step.

        Raises:
            OutputError: the file cannot be written.
        """
        for name, value in progress.losses.items():
            entry = self._sums.setdefault(name, [0.0, 0.0])
            entry[0] += value
            entry[1] += 1
        rows: list[tuple[int, str, str]] = []
        if progress.step % self._every == 0 or progress.step == progress.steps:
            rows += [(progress.step, name, f"{total / count:.6g}") for name, (total, count) in self._sums.items()]
            rows.append((progress.step, "steps_per_second", f"{progress.rate:.4g}"))
            self._sums = {}
        rows += [(progress.step, f"validation_{name}", f"{value:.6g}") for name, value in progress.validation.items()]
        if rows:
            try:
                with self._path.open("a", newline="", encoding="utf-8") as file:
                    csv.writer(file).writerows(rows)
            except OSError as error:
                raise OutputError(f"{self._path}: cannot be written: {error.strerror or error}") from error

    def state_dict(self) -> dict[str, Any]:
        """The losses that are not written yet."""
        return {"sums": self._sums}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take up the losses of :meth:`state_dict`."""
        self._sums = {name: list(entry) for name, entry in state.get("sums", {}).items()}
