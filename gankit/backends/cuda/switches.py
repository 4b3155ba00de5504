"""Environment variables that turn parts of the CUDA path off. Imports no torch."""

from __future__ import annotations

import os

from gankit.errors import UsageError

_WORDS = {"": True, "1": True, "on": True, "0": False, "off": False}


def is_on(name: str) -> bool:
    """Whether a part is on, which it is unless its environment variable is ``off`` or ``0``.

    Args:
        name: name of the environment variable.

    Raises:
        UsageError: If the variable has an unknown value.
    """
    word = os.environ.get(name, "").lower()
    if word not in _WORDS:
        raise UsageError(f"{name} must be on or off, not '{word}'")
    return _WORDS[word]
