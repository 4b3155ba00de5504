"""Parameters of tests of which a few run always, and the others with ``-m slow``."""

from collections import Counter
from collections.abc import Callable, Iterable

import pytest


def others_slow(values: Iterable, fast: int = 2, kind: Callable[..., object] = lambda value: None) -> list:
    """Return values for ``pytest.mark.parametrize``, of which those beyond the first few of each kind are slow."""
    seen: Counter[object] = Counter()
    made = []
    for value in values:
        seen[kind(value)] += 1
        made.append(value if seen[kind(value)] <= fast else pytest.param(value, marks=pytest.mark.slow))
    return made
