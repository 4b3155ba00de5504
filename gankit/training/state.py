"""What a run keeps on disk: the checkpoint that continues it exactly, and its log."""

from __future__ import annotations

import csv
import logging
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from gankit.errors import CheckpointError, OutputError, UsageError
from gankit.training.optimisers import restore_optimiser

if TYPE_CHECKING:
    from gankit.training.loop import Progress, System
    from gankit.training.optimisers import Average

Settings = Mapping[str, int | float | str | bool | None]

_log = logging.getLogger(__name__)
_COLUMNS = ("step", "name", "value")
_MAY_CHANGE = frozenset({"steps", "lr", "inner_lr", "discriminator_lr", "validation"})


@dataclass
class RunState:
    """Where a run is.

    Attributes:
        step: the steps done.
        best: the best validation so far.
        due: whether this step is still to be judged.
        settings: what the run was made with.
    """

    step: int = 0
    best: dict[str, float] = field(default_factory=dict)
    due: bool = False
    settings: Settings = field(default_factory=dict)


def prepare(folder: Path, *, resume: bool) -> Path:
    """Make the folder of a run, and see that it can take one.

    Args:
        folder: of the run.
        resume: whether it is to hold a run already.

    Returns:
        Where its checkpoint is or will be.

    Raises:
        OutputError: nothing can be written there.
        UsageError: it holds a run and ``resume`` is off, or no checkpoint and it is on.
    """
    last = folder / "last.pt"
    if resume and not last.exists():
        raise UsageError(f"{folder}: holds no last.pt to resume from: leave --resume away to begin a run")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise OutputError(f"{folder}: cannot be written: {error.strerror or error}") from error
    if last.exists() and not resume:
        raise UsageError(f"{folder}: holds a run already; continue it with --resume or choose another folder")
    for name in () if resume else ("best.safetensors", "final.safetensors", "log.csv"):
        if (folder / name).exists():
            raise UsageError(f"{folder}: holds the {name} of an earlier run; delete it or choose another folder")
    return last


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


def save_checkpoint(path: Path, system: System, average: Average | None, log: Log, state: RunState) -> None:
    """Write everything that is needed to go on; the file appears whole or not at all.

    Raises:
        OutputError: it cannot be written.
    """
    content = {
        "step": state.step,
        "best": state.best,
        "due": state.due,
        "settings": dict(state.settings),
        "modules": {name: module.state_dict() for name, module in system.modules.items()},
        "optimisers": {name: optimiser.state_dict() for name, optimiser in system.optimisers.items()},
        "average": None if average is None else {"state": average.state, "updates": average.updates},
        "rng": torch.get_rng_state(),
        "cuda_rng": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "log": log.state_dict(),
    }
    with _whole(path) as temporary:
        torch.save(content, temporary)


def restore_checkpoint(path: Path, system: System, average: Average | None, log: Log, settings: Settings) -> RunState:
    """Put a run back to where its checkpoint was written; learning rates are those that the system was made with.

    Returns:
        Where that was. The best validation is forgotten where the validation pictures are others.

    Raises:
        CheckpointError: the file is damaged, or of a run with other networks or settings.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises whatever a broken pickle or zip leads to
        raise CheckpointError(
            f"{path}: cannot be read ({type(error).__name__}): choose another folder, or delete it to begin anew"
        ) from error
    changed = _compare(path, content, settings)
    try:
        if set(content["modules"]) != set(system.modules):
            raise ValueError(f"it has {', '.join(content['modules'])}")
        for name, module in system.modules.items():
            module.load_state_dict(content["modules"][name])
        for name, optimiser in system.optimisers.items():
            restore_optimiser(optimiser, content["optimisers"][name])
        if average is not None:
            stored = content["average"] or {"state": system.generator.state_dict(), "updates": 0}
            for name, value in stored["state"].items():
                average.state[name].copy_(value)
            average.updates = stored["updates"]
        torch.set_rng_state(content["rng"])
        if torch.cuda.is_available() and len(content["cuda_rng"]) == torch.cuda.device_count():
            torch.cuda.set_rng_state_all(content["cuda_rng"])
        log.load_state_dict(content.get("log", {}))
        best = {} if "validation" in changed else dict(content["best"])
        return RunState(int(content["step"]), best, bool(content.get("due", False)), settings)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        first = str(error).splitlines()[-1].strip()
        raise CheckpointError(f"{path}: of another run: resume with the options it was begun with ({first})") from error


def _compare(path: Path, content: Any, settings: Settings) -> frozenset[str]:
    """The names of the settings that are others than the checkpoint's and may be; each is told.

    Raises:
        CheckpointError: one is another that may not be.
    """
    stored: Mapping[str, Any] = (content.get("settings") if isinstance(content, dict) else None) or {}
    if settings and not stored:
        _log.warning("%s: does not say which options it was begun with: make sure that they are the same", path)
    names = [name for name in settings if name in stored and stored[name] != settings[name]]
    for name in names:
        if name not in _MAY_CHANGE:
            raise CheckpointError(
                f"{path}: of another run: its {name} is {stored[name]}, not {settings[name]}: resume with the options "
                "it was begun with, or choose another folder"
            )
    for name in names:
        _log.warning("goes on with %s %s; it was %s", name, settings[name], stored[name])
    return frozenset(names)


class Log:
    """``log.csv``: one line every few steps with the mean of each loss since, and one for each validation.

    Args:
        path: the file.
        every: steps between lines.
    """

    def __init__(self, path: Path, every: int = 10) -> None:
        self._path, self._every = path, every
        self._sums: dict[str, list[float]] = {}  # name -> total and count

    def begin(self, step: int, *, judged: bool = True) -> None:
        """Drop what an earlier run wrote after ``step``, or make a new file.

        Args:
            step: the last that stays.
            judged: whether its validation stays as well.

        Raises:
            OutputError: it cannot be written.
        """
        rows: list[list[str]] = []
        if self._path.exists():
            with self._path.open(newline="", encoding="utf-8") as file:
                found = [row for row in csv.reader(file) if len(row) == len(_COLUMNS) and row[0].isdecimal()]
            kept = [row for row in found if int(row[0]) <= step]
            rows = [row for row in kept if judged or int(row[0]) < step or not row[1].startswith("validation_")]
        with _whole(self._path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([_COLUMNS, *rows])

    def write(self, progress: Progress) -> None:
        """Take in the losses of one step.

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
        self._append(rows)

    def write_validation(self, progress: Progress) -> None:
        """Take in what the judge says of a step.

        Raises:
            OutputError: the file cannot be written.
        """
        found = progress.validation.items()
        self._append([(progress.step, f"validation_{name}", f"{value:.6g}") for name, value in found])

    def _append(self, rows: list[tuple[int, str, str]]) -> None:
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
