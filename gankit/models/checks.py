"""Checks of the options that build a generator: a weights file is not to be trusted with them."""

from __future__ import annotations

from collections.abc import Sequence


def whole(option: str, value: object, most: int, least: int = 1) -> None:
    """Require a whole number; beyond ``most`` a weights file is damaged.

    Raises:
        ValueError: it is none, or out of range.
    """
    if type(value) is not int or not least <= value <= most:
        raise ValueError(f"{option} must be a whole number from {least} to {most}, not {value!r}")


def one_of(option: str, value: object, allowed: Sequence[str]) -> None:
    """Require one of a few words.

    Raises:
        ValueError: it is another.
    """
    if not isinstance(value, str) or value not in allowed:
        raise ValueError(f"{option} must be {' or '.join(repr(word) for word in allowed)}, not {value!r}")


def flag(option: str, value: object) -> None:
    """Require ``True`` or ``False``.

    Raises:
        ValueError: it is neither.
    """
    if type(value) is not bool:
        raise ValueError(f"{option} must be true or false, not {value!r}")
