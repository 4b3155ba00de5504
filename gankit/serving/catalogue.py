"""The models that are served, by name. A request names one of them and never a file. Imports no torch."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from gankit.checkpoints.directions import holds_direction
from gankit.errors import CheckpointError, UsageError, hint
from gankit.models.facts import Facts, Task
from gankit.pipeline.opened import open_source
from gankit.pipeline.source import ModelSource
from gankit.serving.problems import Problem
from gankit.weights import DEFAULT_UPSCALER, TRAINED

TASKS: tuple[Task, ...] = get_args(Task)


@dataclass(frozen=True)
class Served:
    """A model that is served.

    Attributes:
        name: what requests call it.
        source: the name of weights that ship, or a weights file.
        task: its task.
        summary: what it does, in a few words.
        limits: what it cannot do, in one sentence; empty if that is not known.
        strength: whether requests may set a strength: it is one of a pair of a faithful and a sharp model.
        own_strength: the strength at which such a model is itself: 0 for the faithful one, 1 for the sharp one.
        pair: whether it is a pair of generators, so that requests may set a direction.
    """

    name: str
    source: str | Path
    task: Task
    summary: str
    limits: str = ""
    strength: bool = False
    own_strength: float = 0.0
    pair: bool = False


class Catalogue:
    """The models that are served. May be used from several threads.

    Args:
        models: names of weights that ship, and weights files, which are served under their names without the suffix;
            empty for all weights that ship.
        max_memory: bytes that the process may use in all.

    Raises:
        UsageError: If a name is unknown, or two models have the same name.
        CheckpointError: If a weights file cannot be read.
    """

    def __init__(self, models: Sequence[str] = (), max_memory: int | None = None) -> None:
        self._max_memory = max_memory
        self._lock = threading.Lock()
        self._facts: dict[str, Facts] = {}
        self.models: dict[str, Served] = {}
        for model in models or TRAINED:
            served = _shipped(model) if model in TRAINED else self._file(Path(model))
            if served.name in self.models:
                raise UsageError(f"two models are called '{served.name}'; rename one of the files")
            self.models[served.name] = served

    def default(self, task: Task) -> str | None:
        """Return the model of requests that name none; ``None`` if there is none for the task."""
        names = [served.name for served in self.models.values() if served.task == task]
        if task == "upscale" and DEFAULT_UPSCALER in names:
            return DEFAULT_UPSCALER
        return names[0] if names else None

    def find(self, name: str | None, task: Task) -> Served:
        """Return a model.

        Args:
            name: its name; ``None`` for the default.
            task: the task that it must be for.

        Raises:
            Problem: If there is none.
        """
        chosen = name or self.default(task)
        if chosen is None:
            raise Problem(404, f"this service has no model to {task}; see /models")
        served = self.models.get(chosen)
        if served is None:
            known = [each.name for each in self.models.values() if each.task == task]
            advice = hint(chosen, known) if known else "see /models"
            raise Problem(404, f"there is no model '{chosen[:100]}'; {advice}")
        if served.task != task:
            raise Problem(404, f"'{chosen}' is a model to {served.task}, not to {task}; use /{served.task}")
        return served

    def facts(self, served: Served) -> Facts:
        """Return the facts of a model. The first call reads its weights file, which may take a while.

        Raises:
            CheckpointError: If it cannot be read.
        """
        with self._lock:
            if served.name not in self._facts:
                opened = open_source(ModelSource(served.source, served.task), self._max_memory)
                self._facts[served.name] = opened.loaded.facts
            return self._facts[served.name]

    def _file(self, path: Path) -> Served:
        source, pair = path if path.exists() else str(path), holds_direction(path)
        try:
            opened = open_source(ModelSource(source, None), self._max_memory)
        except CheckpointError:
            # A file that holds both generators of a pair opens with a direction only.
            opened, pair = open_source(ModelSource(source, None, "AtoB"), self._max_memory), True
        facts = opened.loaded.facts
        self._facts[path.stem] = facts
        summary = f"{facts.name}, {facts.paper}" if facts.paper else facts.name
        return Served(path.stem, path, facts.task, summary, pair=pair)


def _shipped(name: str) -> Served:
    entry = TRAINED[name]
    partners = {other.faithful for other in TRAINED.values()}
    return Served(
        name,
        name,
        entry.task,
        entry.summary,
        entry.limits,
        strength=entry.faithful is not None or name in partners,
        own_strength=0.0 if entry.faithful is None else 1.0,
        pair=entry.file is not None,
    )
