"""The arguments of samples: classes and whole numbers. Imports no torch."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Sequence
from typing import Any

from gankit.errors import UsageError
from gankit.models.facts import Facts

Classes = int | Sequence[int] | None


def checked_classes(facts: Facts, classes: Classes, n: int) -> Classes:
    """Check the classes of samples and return them: one for all samples, or at least ``n``.

    Args:
        facts: facts of the generator.
        classes: as in :meth:`gankit.pipeline.sampler.Sampler.sample`.
        n: number of samples.

    Raises:
        UsageError: If they are wrong.
    """
    if classes is None:
        return None
    known, name = facts.classes, facts.name
    if not known:
        raise UsageError(f"'{name}' has no classes; omit the class")
    single = not isinstance(classes, Iterable) or getattr(classes, "ndim", 1) == 0
    try:
        several = [operator.index(item) for item in ([classes] if single else classes)]  # type: ignore
    except TypeError:
        raise UsageError(f"classes must be a whole number or several of them, not {classes!r}") from None
    for item in several:
        if not 0 <= item < known:
            raise UsageError(f"class {item}: '{name}' has the classes 0 to {known - 1}")
    if single:
        return several[0]
    if len(several) < n:
        raise UsageError(f"{len(several)} classes for {n} samples; use one class for all, or one for each")
    return several


def whole(name: str, value: Any) -> int:
    """Return an argument as an ``int``; raise :class:`UsageError` if it is no whole number."""
    try:
        return operator.index(value)
    except TypeError:
        raise UsageError(f"{name} must be a whole number, not {value!r}") from None


def class_of(classes: Classes, index: int, known: int) -> int:
    """Return the class of a sample; each of the ``known`` ones in turn if none were chosen."""
    if classes is None:
        return index % known
    return classes if isinstance(classes, int) else classes[index]
