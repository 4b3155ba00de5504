"""What a run keeps on disk: the checkpoint that continues it exactly."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from gankit_export.files import atomic_path

from gankit.errors import CheckpointError, OutputError, UsageError
from gankit.training import ranks
from gankit.training.optimisers import restore_optimiser

if TYPE_CHECKING:
    from gankit.training.log import Log
    from gankit.training.loop import System
    from gankit.training.optimisers import Average
    from gankit.training.watch import DiversityWatch

Settings = Mapping[str, int | float | str | bool | None]

_log = logging.getLogger(__name__)
_MAY_CHANGE = frozenset({"steps", "lr", "inner_lr", "discriminator_lr", "validation"})


@dataclass
class RunState:
    """Where a run is.

    Attributes:
        step: the steps done.
        best: the best validation so far.
        due: whether this step is still to be validated.
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
        raise UsageError(f"{folder}: holds no last.pt to resume from: omit --resume to start a new run")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise OutputError(f"{folder}: cannot be written: {error.strerror or error}") from error
    if last.exists() and not resume:
        raise UsageError(f"{folder}: holds a run already; continue it with --resume or choose another folder")
    earlier = sorted({*folder.glob("best*.safetensors"), *folder.glob("final*.safetensors"), *folder.glob("log.csv")})
    for path in () if resume else earlier:
        if path.is_file():
            raise UsageError(f"{folder}: holds the {path.name} of an earlier run; delete it or choose another folder")
    return last


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """A temporary file that takes the place of ``path`` when the block is left without an error.

    Raises:
        OutputError: it cannot be written.
    """
    try:
        with atomic_path(path) as temporary:
            yield temporary
    except (OSError, RuntimeError) as error:  # torch.save says RuntimeError where the disk is full
        reason = getattr(error, "strerror", None) or error
        raise OutputError(f"{path}: cannot be written: {reason}") from error


def save_checkpoint(
    path: Path, system: System, average: Average | None, log: Log, watch: DiversityWatch, state: RunState
) -> None:
    """Write everything that is needed to continue; the file appears whole or not at all.

    Where several processes train together, all call this, and the first writes.

    Raises:
        OutputError: it cannot be written.
    """
    own, *others = ranks.gathered(_personal(system))
    if ranks.rank() != 0:
        return ranks.by_first(_nothing)
    content = {
        "step": state.step,
        "best": state.best,
        "due": state.due,
        "settings": dict(state.settings),
        "modules": {name: module.state_dict() for name, module in system.modules.items()},
        "optimisers": {name: optimiser.state_dict() for name, optimiser in system.optimisers.items()},
        "average": None if average is None else {"state": average.state, "updates": average.updates},
        **own,
        "others": others,
        "log": log.state_dict(),
        "watch": watch.state_dict(),
    }

    def write() -> None:
        with whole(path) as temporary:
            torch.save(content, temporary)

    return ranks.by_first(write)


def _nothing() -> None:
    """What the other processes have to do."""


def _personal(system: System) -> dict[str, Any]:
    """What each process has of its own."""
    return {
        "rng": torch.get_rng_state(),
        "cuda_rng": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "extras": {name: extra.state_dict() for name, extra in system.extras.items()},
    }


def restore_checkpoint(
    path: Path, system: System, average: Average | None, log: Log, watch: DiversityWatch, settings: Settings
) -> RunState:
    """Put a run back to where its checkpoint was written; learning rates are those that the system was made with.

    Returns:
        Where that was. The best validation is forgotten where the validation images are others.

    Raises:
        CheckpointError: the file is damaged, or of a run with other networks or settings.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises whatever a broken pickle or zip leads to
        raise CheckpointError(
            f"{path}: cannot be read ({type(error).__name__}): choose another folder, or delete the file to start again"
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
        personal = _personal_of(path, content)
        if personal is not None:
            torch.set_rng_state(personal["rng"])
            if torch.cuda.is_available() and len(personal["cuda_rng"]) == torch.cuda.device_count():
                torch.cuda.set_rng_state_all(personal["cuda_rng"])
            for name, extra in system.extras.items():
                extra.load_state_dict(personal["extras"][name])
        log.load_state_dict(content.get("log", {}))
        if "watch" in content:
            watch.load_state_dict(content["watch"])
        best = {} if "validation" in changed else dict(content["best"])
        step = int(content["step"])
        ends = "steps" in changed and step == settings["steps"]  # which it did not when it was written
        return RunState(step, best, ends or bool(content.get("due", False)), settings)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        first = str(error).splitlines()[-1].strip()
        raise CheckpointError(
            f"{path}: the checkpoint is of another run ({first}): resume with the options of that run"
        ) from error


def _personal_of(path: Path, content: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """What the checkpoint has of this very process; nothing, where it has no such process."""
    everyone = [content, *content.get("others", [])]
    if len(everyone) != ranks.world() and ranks.rank() == 0:
        _log.warning(
            "%s: continues in %d processes instead of %d: a step now has another number of samples",
            path,
            ranks.world(),
            len(everyone),
        )
    return everyone[ranks.rank()] if ranks.rank() < len(everyone) else None


def _compare(path: Path, content: Any, settings: Settings) -> frozenset[str]:
    """The names of the settings that are others than the checkpoint's and may be; each is reported.

    Raises:
        CheckpointError: one is another that may not be.
    """
    stored: Mapping[str, Any] = (content.get("settings") if isinstance(content, dict) else None) or {}
    if settings and not stored and ranks.rank() == 0:
        _log.warning("%s: does not record the options of its run: make sure that they are the same", path)
    names = [name for name in settings if name in stored and stored[name] != settings[name]]
    for name in names:
        if name not in _MAY_CHANGE:
            raise CheckpointError(
                f"{path}: the checkpoint is of another run: its {name} is {stored[name]}, not {settings[name]}: resume "
                "with the options of that run, or choose another folder"
            )
    for name in names if ranks.rank() == 0 else ():
        _log.warning("continues with %s %s; the checkpoint has %s", name, settings[name], stored[name])
    return frozenset(names)
