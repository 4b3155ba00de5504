"""Parameters of tests whose first values run always, and whose others run with ``-m slow``."""

from collections.abc import Iterable

import pytest


def others_slow(values: Iterable[object], fast: int = 2) -> list[object]:
    """Return values for ``pytest.mark.parametrize``, of which those beyond the first few are marked slow."""
    return [
        value if index < fast else pytest.param(value, marks=pytest.mark.slow) for index, value in enumerate(values)
    ]
