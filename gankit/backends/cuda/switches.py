"""Environment variables that turn parts of the CUDA path off. Imports no torch."""

from __future__ import annotations

import os

from gankit.errors import UsageError

KERNELS = "GANKIT_KERNELS"
GRAPHS = "GANKIT_CUDA_GRAPHS"
_WORDS = {"1": True, "on": True, "0": False, "off": False}
_MOST = 64


def is_on(name: str, *, default: bool = True) -> bool:
    """Whether a part is on, as its environment variable says: ``on``, ``1``, ``off`` or ``0``.

    Args:
        name: name of the environment variable.
        default: the answer if the variable is not set.

    Raises:
        UsageError: If the variable has an unknown value.
    """
    word = os.environ.get(name, "").lower()
    if word and word not in _WORDS:
        raise UsageError(f"{name} must be on or off, not '{word}'")
    return _WORDS.get(word, default)


def number(name: str, default: int) -> int:
    """The number in an environment variable.

    Args:
        name: name of the environment variable.
        default: the answer if the variable is not set.

    Raises:
        UsageError: If the variable is not a number from 1 to 64.
    """
    word = os.environ.get(name, "")
    if word and not (word.isdecimal() and 1 <= int(word) <= _MOST):
        raise UsageError(f"{name} must be a number from 1 to {_MOST}, not '{word}'")
    return int(word) if word else default


def kernels_wanted() -> bool:
    """Whether CUDA engines use gankit's own kernels, which they do unless ``GANKIT_KERNELS=off`` is set.

    Raises:
        UsageError: If the variable has an unknown value.
    """
    return is_on(KERNELS)


def graphs_wanted() -> bool:
    """Whether CUDA engines record graphs, which they do unless ``GANKIT_CUDA_GRAPHS=off`` is set.

    Raises:
        UsageError: If the variable has an unknown value.
    """
    return is_on(GRAPHS)
