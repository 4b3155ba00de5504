"""The model of a pipeline: a name, a weights file, an open model or a user's own module. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, TypedDict, get_args

from gankit import models
from gankit.errors import UsageError
from gankit.models.facts import AtTest, Direction, Facts, InputKind, Task
from gankit.options import EngineKeywords, EngineOptions
from gankit.pipeline.paths import exists

if TYPE_CHECKING:
    from torch import nn

    from gankit.checkpoints import Loaded

    Model: TypeAlias = "str | Path | Loaded | nn.Module"

_OF_ANY_MODEL = ("input_kind", "labels")


class FactsKeywords(TypedDict, total=False):
    """The facts that users may state about their own module; see :class:`gankit.Facts`."""

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
    input_kind: InputKind
    labels: tuple[int, ...]


class PipelineKeywords(EngineKeywords, FactsKeywords, total=False):
    """The keywords of a pipeline: engine options, and facts of a module."""


@dataclass(frozen=True)
class ModelSource:
    """A model and how to open it.

    Attributes:
        model: a registry name, a weights file, an open model, or a module.
        task: task that the model must be for; ``None`` accepts any.
        direction: which generator of a pair; see :func:`gankit.checkpoints.open_model`.
        norm: which statistics BatchNorm uses; see :func:`gankit.checkpoints.open_model`.
        options: model options that replace those of the weights file; see :func:`gankit.checkpoints.open_model`.
        facts: all facts of a module; ``None`` if ``stated`` has them.
        stated: single facts of a module, or ``input_kind`` and ``labels`` of any model whose weights file does not say
            them.

    Raises:
        UsageError: If the name is unknown, or facts are stated for a model that is not a module.
    """

    model: Model
    task: Task | None
    direction: Direction | None = None
    norm: AtTest | None = None
    options: Mapping[str, Any] | None = None
    facts: Facts | None = None
    stated: Mapping[str, Any] = field(default_factory=dict)

    def of_results(self) -> dict[str, Any]:
        """Return the options that determine the pixels of a result and are not at their defaults."""
        own = {"direction": self.direction, "norm": self.norm, "model": dict(self.options or {})}
        found = {name: value for name, value in own.items() if value}
        stated = dict(self.stated)
        if self.facts is not None:
            stated = {name: value for name, value in asdict(self.facts).items() if name not in ("name", "paper")}
        return {**found, "facts": stated} if stated else found

    def __post_init__(self) -> None:
        known = {"direction": get_args(Direction), "norm": get_args(AtTest)}
        for name, value in (("direction", self.direction), ("norm", self.norm)):
            if value is not None and not (isinstance(value, str) and value in known[name]):
                raise UsageError(f"{name} must be {' or '.join(map(repr, known[name]))}, not {value!r}")
        if self.options is not None and not isinstance(self.options, Mapping):
            raise UsageError(f"options must be a dict of model options, not {self.options!r}")
        if self.facts is not None and not isinstance(self.facts, Facts):
            raise UsageError(f"facts must be gankit.Facts, not {self.facts!r}")
        if self.is_module:
            if self.direction is not None or self.norm is not None or self.options:
                raise UsageError("direction, norm and options apply to weights files; a module runs as it is")
            if self.facts is not None and self.stated:
                raise UsageError(f"facts and {', '.join(self.stated)} are both given; use one or the other")
            return
        stated = [name for name in self.stated if name not in _OF_ANY_MODEL]
        if self.facts is not None or stated:
            what = "facts" if self.facts is not None else " and ".join(stated)
            raise UsageError(f"{what}: only a module of your own needs facts; '{self.model}' has its own facts")
        if not isinstance(self.model, str | Path) and not hasattr(self.model, "facts"):
            kind = f"{type(self.model).__module__}.{type(self.model).__qualname__}"
            raise UsageError(f"a model cannot be of type {kind}; give a name, a weights file or an nn.Module")
        if isinstance(self.model, str | Path) and not models.is_known(str(self.model)) and not exists(self.model):
            self._open_named()  # raises, naming the nearest model or the file

    @property
    def is_module(self) -> bool:
        """Whether the model is a user's module."""
        return not isinstance(self.model, str | Path) and hasattr(self.model, "forward")

    def open(self) -> Loaded:
        """Load the model.

        Raises:
            UsageError: If the model is for another task, or a module does not agree with its facts.
            CheckpointError: If the weights file cannot be read.
        """
        return self.checked(self.read())

    def read(self) -> Loaded:
        """Load the model as its file, or the module, describes it.

        Raises:
            UsageError: If a module does not agree with its facts.
            CheckpointError: If the weights file cannot be read.
        """
        return self._open_module() if self.is_module else self._open_named()

    def checked(self, loaded: Loaded) -> Loaded:
        """Return a model with the facts that the user stated.

        Args:
            loaded: the result of :meth:`read`.

        Raises:
            UsageError: If the model is for another task.
        """
        if self.stated and not self.is_module:
            loaded = replace(loaded, facts=self._restated(loaded.facts))
        task = loaded.facts.task
        if self.task is not None and task != self.task:
            name = loaded.facts.name if not isinstance(self.model, str | Path) else self.model
            raise UsageError(f"'{name}' is a model to {task}, not to {self.task}; use `gankit {task}`")
        return loaded

    def _restated(self, facts: Facts) -> Facts:
        kind = self.stated.get("input_kind", facts.input_kind)
        labels = self.stated.get("labels", facts.labels if kind == facts.input_kind else ())
        return replace(facts, input_kind=kind, labels=labels)

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
    """Split keywords into engine options, which update ``engine``, and facts of a module.

    Raises:
        TypeError: If a keyword is neither.
        UsageError: If ``engine`` is something else, or an engine option is wrong.
    """
    if engine is not None and not isinstance(engine, EngineOptions):
        raise UsageError(f"engine must be gankit.EngineOptions, not {engine!r}")
    own = EngineKeywords.__annotations__
    given: dict[str, Any] = dict(keywords)
    stated = {name: value for name, value in given.items() if name not in own}
    if wrong := [name for name in stated if name not in FactsKeywords.__annotations__]:
        raise TypeError(f"unexpected keyword argument '{wrong[0]}'")
    chosen = {name: value for name, value in given.items() if name in own}
    return replace(engine or EngineOptions(), **chosen), stated
