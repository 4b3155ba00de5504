"""The options of a model, written once: a frozen dataclass per model.

The arguments of the generator's constructor, the facts, ``--model-option``, ``gankit models NAME`` and the options in
the header of a weights file all derive from its fields. Importing this module imports no torch.
"""

from __future__ import annotations

import difflib
import inspect
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import Field, dataclass, field, fields
from typing import Any, Self

from gankit.models.checks import Number, Rule, Whole
from gankit.models.facts import Facts

WIDTH, DEPTH = Whole(4096), Whole(1024)  # channels and blocks; a weights file that asks for more is damaged
EPSILON = Number(0, 1, above=True)  # what a normalisation adds to the variance


def option(default: Any, rule: Rule, text: str, *, omit: bool = False) -> Any:
    """One option of a model, as a field of its dataclass.

    Args:
        default: the value in the paper, or in the published code.
        rule: what values are allowed.
        text: what the option means, in one sentence without a full stop.
        omit: leave the option out of the facts and of weights files where it has its default, so that the files of
            networks that do not use it stay as they are.
    """
    return field(default=default, metadata={"rule": rule, "text": text, "omit": omit})


@dataclass(frozen=True)
class OptionInfo:
    """What a user may want to know of one option.

    Attributes:
        name: the KEY of ``--model-option KEY=VALUE``.
        default: the value in the paper, or in the published code.
        allowed: the allowed values in words.
        text: what the option means.
    """

    name: str
    default: Any
    allowed: str
    text: str


@dataclass(frozen=True)
class ModelOptions(ABC):
    """Base of the options of every model. Each field is made by :func:`option`.

    Lists become tuples, and whole numbers floats where the option is a number.

    Raises:
        ValueError: an option has a value that is not allowed; one line with the option, what is allowed and the value.
    """

    def __init_subclass__(cls, **arguments: Any) -> None:
        """Document the attributes of a subclass by the text and the rule of its fields."""
        super().__init_subclass__(**arguments)
        own = {name: item for name, item in vars(cls).items() if isinstance(item, Field)}
        lines = [_line(name, item) for name, item in {**getattr(cls, "__dataclass_fields__", {}), **own}.items()]
        cls.__doc__ = "\n".join([inspect.cleandoc(cls.__doc__ or ""), "", "Attributes:", *lines])

    def __post_init__(self) -> None:
        for item in fields(self):
            value = item.metadata["rule"].require(item.name, getattr(self, item.name))
            object.__setattr__(self, item.name, value)  # the instance is frozen, but still being made
        self.check()

    def check(self) -> None:  # noqa: B027 - most models have nothing to check
        """Require what options demand of each other; nothing here.

        Raises:
            ValueError: two options do not go together.
        """

    @abstractmethod
    def facts(self, name: str) -> Facts:
        """The facts of the generator that these options build.

        Args:
            name: registry name of the model.
        """

    def stored(self) -> dict[str, Any]:
        """The options as JSON values, as ``Facts.options`` and the header of a weights file hold them."""
        values = ((item, getattr(self, item.name)) for item in fields(self))
        return {
            item.name: _plain(value) for item, value in values if not (item.metadata["omit"] and value == item.default)
        }

    @classmethod
    def described(cls) -> tuple[OptionInfo, ...]:
        """All options of the model, for help and documentation."""
        return tuple(
            OptionInfo(item.name, item.default, item.metadata["rule"].allowed, item.metadata["text"])
            for item in fields(cls)
        )

    @classmethod
    def from_mapping(cls, model: str, options: Mapping[str, Any]) -> Self:
        """The options from names and values.

        Args:
            model: registry name, for the error.
            options: any part of the options; the others have their defaults.

        Raises:
            TypeError: the model has no such option; one line with the nearest option and what it allows, or with all
                options.
            ValueError: an option has a value that is not allowed.
        """
        known = {info.name: info for info in cls.described()}
        for name in options:
            if name not in known:
                raise TypeError(f"'{model}' has no option '{name}': {_instead(model, str(name), known)}")
        return cls(**options)


def _instead(model: str, name: str, known: Mapping[str, OptionInfo]) -> str:
    """What to say after an option that is not known."""
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    if not near:
        return f"the options of '{model}' are {', '.join(known)}"
    return f"did you mean '{near[0]}' ({known[near[0]].allowed})? 'gankit models {model}' lists all options"


def _line(name: str, item: Field[Any]) -> str:
    return f"    {name}: {item.metadata['text']} ({item.metadata['rule'].allowed}; default {item.default!r})."


def _plain(value: Any) -> Any:
    return [_plain(item) for item in value] if isinstance(value, tuple) else value
