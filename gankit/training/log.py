"""``log.csv``: the losses and validations of a run."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gankit_export.files import append_bytes

from gankit.errors import OutputError
from gankit.training.state import whole

if TYPE_CHECKING:
    from gankit.training.loop import Progress

_COLUMNS = ("step", "name", "value")


class Log:
    """``log.csv``: the mean of each loss every few steps, and every validation.

    Args:
        path: the file.
        every: steps between lines.
    """

    def __init__(self, path: Path, every: int = 10) -> None:
        self._path, self._every = path, every
        self._sums: dict[str, list[float]] = {}  # name -> total and count

    def begin(self, step: int, *, validated: bool = True) -> None:
        """Drop what an earlier run wrote after ``step``, or make a new file.

        Args:
            step: the last that stays.
            validated: whether its validation stays as well.

        Raises:
            OutputError: it cannot be written.
        """
        rows: list[list[str]] = []
        if self._path.exists():
            with self._path.open(newline="", encoding="utf-8") as file:
                found = [row for row in csv.reader(file) if len(row) == len(_COLUMNS) and row[0].isdecimal()]
            kept = [row for row in found if int(row[0]) <= step]
            rows = [row for row in kept if validated or int(row[0]) < step or not row[1].startswith("validation_")]
        with whole(self._path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([_COLUMNS, *rows])

    def is_due(self, progress: Progress) -> bool:
        """Whether a line is written at this step."""
        return progress.step % self._every == 0 or progress.step == progress.steps

    def take(self, losses: Mapping[str, float]) -> None:
        """Take in the losses of one step."""
        for name, value in losses.items():
            entry = self._sums.setdefault(name, [0.0, 0.0])
            entry[0] += value
            entry[1] += 1

    def write(self, progress: Progress) -> list[tuple[int, str, float]]:
        """Write the means of the losses since the last line.

        Returns:
            Step, name and value of what is now in the file.

        Raises:
            OutputError: the file cannot be written.
        """
        rows = [(progress.step, name, total / count) for name, (total, count) in self._sums.items()]
        rows.append((progress.step, "steps_per_second", progress.rate))
        self._sums = {}
        return self._append(rows)

    def write_validation(self, progress: Progress) -> list[tuple[int, str, float]]:
        """Take in the validation of a step; returns what is now in the file.

        Raises:
            OutputError: the file cannot be written.
        """
        found = progress.validation.items()
        return self._append([(progress.step, f"validation_{name}", value) for name, value in found])

    def _append(self, rows: list[tuple[int, str, float]]) -> list[tuple[int, str, float]]:
        if rows:
            try:
                text = io.StringIO(newline="")
                csv.writer(text).writerows((step, name, f"{value:.6g}") for step, name, value in rows)
                append_bytes(self._path, text.getvalue().encode("utf-8"))
            except OSError as error:
                raise OutputError(f"{self._path}: cannot be written: {error.strerror or error}") from error
        return rows

    def state_dict(self) -> dict[str, Any]:
        """The losses that are not written yet."""
        return {"sums": self._sums}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take up the losses of :meth:`state_dict`."""
        self._sums = {name: list(entry) for name, entry in state.get("sums", {}).items()}
