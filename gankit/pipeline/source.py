"""Which model a pipeline runs: a name, a weights file, an open model or a user's own module. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, TypedDict

from gankit import models
from gankit.errors import UsageError
from gankit.models.facts import AtTest, Direction, Facts, Task
from gankit.options import EngineKeywords, EngineOptions
from gankit.pipeline.paths import exists

if TYPE_CHECKING:
    from torch import nn

    from gankit.checkpoints import Loaded

    Model: TypeAlias = "str | Path | Loaded | nn.Module"


class FactsKeywords(TypedDict, total=False):
    """What a user may state of a module of their own; see :class:`gankit.Facts`."""

    scale: int
    channels: int
    value_range: tuple[float, float]
    multiple: int
    minimum: int
    tileable: bool
    halo: int
    latent: int
    classes: int
    output_size: tuple[int, int]


class PipelineKeywords(EngineKeywords, FactsKeywords, total=False):
    """Everything that a pipeline takes by name besides its model: an engine's options, and a module's facts."""


@dataclass(frozen=True)
class ModelSource:
    """A model and how to open it.

    Attributes:
        model: a registry name, a weights file, a model that is open already, or a module.
        task: that the model must be for; ``None`` for any.
        direction: which generator of a pair; see :func:`gankit.checkpoints.open_model`.
        norm: what a BatchNorm goes by, likewise.
        options: of the model, in place of those that its weights file holds, likewise.
        facts: of a module, whole; ``None`` where ``stated`` has them.
        stated: facts of a module, one by one.

    Raises:
        UsageError: an unknown name, or facts that go with no module.
    """

    model: Model
    task: Task | None
    direction: Direction | None = None
    norm: AtTest | None = None
    options: Mapping[str, Any] | None = None
    facts: Facts | None = None
    stated: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.is_module:
            if self.direction is not None or self.norm is not None or self.options:
                raise UsageError("direction, norm and options are for weights files; a module is run as it is")
            if self.facts is not None and self.stated:
                raise UsageError(f"facts are given, and so are {', '.join(self.stated)}; give one or the other")
            return
        if self.facts is not None or self.stated:
            what = "facts" if self.facts is not None else " and ".join(self.stated)
            raise UsageError(f"{what}: only for a module of your own; '{self.model}' has its own facts")
        if isinstance(self.model, str | Path) and not models.is_known(str(self.model)) and not exists(self.model):
            self._open_named()  # raises, naming the nearest model or the file

    @property
    def is_module(self) -> bool:
        """Whether the model is a user's module."""
        return not isinstance(self.model, str | Path) and hasattr(self.model, "forward")

    def open(self) -> Loaded:
        """Load the model.

        Raises:
            UsageError: it is for another task, or a module does not agree with its facts.
            CheckpointError: its file cannot be read.
        """
        loaded = self._open_module() if self.is_module else self._open_named()
        task = loaded.facts.task
        if self.task is not None and task != self.task:
            name = loaded.facts.name if not isinstance(self.model, str | Path) else self.model
            raise UsageError(f"'{name}' is a model to {task}, not to {self.task}: use gankit {task}")
        return loaded

    def _open_named(self) -> Loaded:
        from gankit.checkpoints import Loaded, open_model

        if isinstance(self.model, Loaded):
            return self.model
        assert isinstance(self.model, str | Path)
        return open_model(self.model, direction=self.direction, norm=self.norm, options=self.options)

    def _open_module(self) -> Loaded:
        from gankit.checkpoints.custom import from_module

        task = self.facts.task if self.facts else self.task
        if task is None and "latent" in self.stated:
            task = "generate"
        if task is None and "scale" in self.stated:
            task = "upscale"
        if task is None:
            raise UsageError("state the task of your module: scale= of an upscaler, latent= of a sampler, or task=")
        return from_module(self.model, task, self.facts, self.stated)  # type: ignore[arg-type]


def split_keywords(engine: EngineOptions | None, keywords: PipelineKeywords) -> tuple[EngineOptions, dict[str, Any]]:
    """The engine's options with those keywords that are theirs, and the others: facts of a module.

    Raises:
        TypeError: a keyword is neither.
    """
    own = EngineKeywords.__annotations__
    given: dict[str, Any] = dict(keywords)
    stated = {name: value for name, value in given.items() if name not in own}
    if wrong := [name for name in stated if name not in FactsKeywords.__annotations__]:
        raise TypeError(f"unexpected keyword argument '{wrong[0]}'")
    chosen = {name: value for name, value in given.items() if name in own}
    return replace(engine or EngineOptions(), **chosen), stated
