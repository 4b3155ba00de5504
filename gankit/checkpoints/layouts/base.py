"""What a layout is, and helpers that layouts share."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor


@dataclass(frozen=True)
class Match:
    """A recognised state dict.

    Attributes:
        model: registry name.
        options: of the model that these weights fit.
        state: the weights under the names of gankit's generator.
        recognised: by what, in a few words; empty where it does not matter.
        assumed: what neither names nor shapes tell, in a few words; empty where nothing is.
    """

    model: str
    options: Mapping[str, Any]
    state: Mapping[str, Tensor]
    recognised: str = ""
    assumed: str = ""


@dataclass(frozen=True)
class Layout:
    """One naming of the weights of an architecture.

    Attributes:
        name: of the project whose layout it is, for messages.
        match: returns ``None`` for a state dict of another layout. It tests a few keys that no other layout has;
            whether all tensors are present and fit is checked once, later, for all layouts.
    """

    name: str
    match: Callable[[Mapping[str, Tensor]], Match | None]


def count(state: Mapping[str, Tensor], pattern: str) -> int:
    """The number of names that match a regular expression as a whole."""
    compiled = re.compile(pattern)
    return sum(compiled.fullmatch(name) is not None for name in state)


def dims(state: Mapping[str, Tensor], name: str) -> tuple[int, ...]:
    """The shape of a tensor; empty if there is no such tensor."""
    return tuple(state[name].shape) if name in state else ()


def rename(state: Mapping[str, Tensor], rules: list[tuple[str, str]]) -> dict[str, Tensor]:
    r"""Apply to every name the first rule whose regular expression matches its beginning; others stay unchanged.

    Args:
        state: tensors by name.
        rules: (pattern, replacement) of the beginning of a name; ``\1`` is the first group.
    """
    renamed = {}
    for name, value in state.items():
        for pattern, replacement in rules:
            new, hits = re.subn(f"^{pattern}", replacement, name, count=1)
            if hits:
                name = new
                break
        renamed[name] = value
    return renamed
