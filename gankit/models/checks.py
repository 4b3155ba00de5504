"""The rules that a model's options obey. The options may come from a weights file, which is not to be trusted.

Importing this module imports no torch.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

_LONGEST = 80  # characters of a refused value that an error shows


@dataclass(frozen=True)
class Rule(ABC):
    """What values one option may have."""

    @property
    @abstractmethod
    def allowed(self) -> str:
        """The allowed values in words, as they follow "must be"."""

    @abstractmethod
    def normal(self, value: Any) -> Any:
        """The value in the form in which options hold it: a float for ``1``, a tuple for a list.

        Raises:
            ValueError: the value is not allowed; the text says nothing.
        """

    def require(self, option: str, value: object) -> Any:
        """The value in the form in which options hold it.

        Args:
            option: name of the option, for the error.
            value: anything, such as a value read from JSON.

        Raises:
            ValueError: the value is not allowed; one line with the option, what is allowed and the value.
        """
        try:
            return self.normal(value)
        except (ValueError, OverflowError):
            raise ValueError(f"{option} must be {self.allowed}, not {_short(value)}") from None


@dataclass(frozen=True)
class Whole(Rule):
    """A whole number.

    Attributes:
        most: the largest; a weights file that asks for more is damaged.
        least: the smallest.
    """

    most: int
    least: int = 1

    @property
    def allowed(self) -> str:
        """See the base class."""
        return f"a whole number from {self.least} to {self.most}"

    def normal(self, value: Any) -> int:
        """See the base class; ``True`` and ``4.0`` are no whole numbers."""
        if type(value) is not int or not self.least <= value <= self.most:
            raise ValueError
        return value


@dataclass(frozen=True)
class Number(Rule):
    """A number.

    Attributes:
        least: the smallest.
        most: the largest.
        above: the number must be larger than ``least``.
        below: the number must be smaller than ``most``.
    """

    least: float
    most: float
    above: bool = False
    below: bool = False

    @property
    def allowed(self) -> str:
        """See the base class."""
        if not (self.above or self.below):
            return f"a number from {self.least:g} to {self.most:g}"
        lower, upper = "above" if self.above else "of at least", "below" if self.below else "at most"
        return f"a number {lower} {self.least:g} and {upper} {self.most:g}"

    def normal(self, value: Any) -> float:
        """See the base class; a whole number becomes a float, NaN is refused."""
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ValueError
        number = float(value)
        above = number > self.least if self.above else number >= self.least
        below = number < self.most if self.below else number <= self.most
        if not (above and below):
            raise ValueError
        return number


@dataclass(frozen=True)
class Choice(Rule):
    """One of a few words or whole numbers.

    Attributes:
        values: all of one type.
    """

    values: tuple[str, ...] | tuple[int, ...]

    @property
    def allowed(self) -> str:
        """See the base class."""
        *others, last = (repr(value) for value in self.values)
        return f"{', '.join(others)} or {last}" if others else last

    def normal(self, value: Any) -> str | int:
        """See the base class; ``4.0`` is not 4."""
        if type(value) is not type(self.values[0]) or value not in self.values:
            raise ValueError
        chosen: str | int = value
        return chosen


@dataclass(frozen=True)
class Flag(Rule):
    """True or false."""

    @property
    def allowed(self) -> str:
        """See the base class."""
        return "true or false"

    def normal(self, value: Any) -> bool:
        """See the base class; 1 is not true."""
        if type(value) is not bool:
            raise ValueError
        return value


@dataclass(frozen=True)
class Optional(Rule):
    """None, or what another rule allows.

    Attributes:
        rule: of a value that is not None.
    """

    rule: Rule

    @property
    def allowed(self) -> str:
        """See the base class."""
        return f"none or {self.rule.allowed}"

    def normal(self, value: Any) -> Any:
        """See the base class; the word "none" stands for None."""
        if value is None or (isinstance(value, str) and value.lower() == "none"):
            return None
        return self.rule.normal(value)


@dataclass(frozen=True)
class Several(Rule):
    """A list of values that obey one rule.

    Attributes:
        rule: of every value.
        longest: the largest number of values.
        fewest: the smallest number of values.
    """

    rule: Rule
    longest: int
    fewest: int = 1

    @property
    def allowed(self) -> str:
        """See the base class."""
        return f"a list of {self.fewest} to {self.longest} values, each {self.rule.allowed}"

    def normal(self, value: Any) -> tuple[Any, ...]:
        """See the base class; a list becomes a tuple."""
        if not isinstance(value, list | tuple) or not self.fewest <= len(value) <= self.longest:
            raise ValueError
        return tuple(self.rule.normal(item) for item in value)


@dataclass(frozen=True)
class Fields(Rule):
    """A list of so many values, each of which has a meaning and a rule of its own.

    Attributes:
        rules: one for each value.
        text: what ``allowed`` says.
    """

    rules: tuple[Rule, ...]
    text: str

    @property
    def allowed(self) -> str:
        """See the base class."""
        return self.text

    def normal(self, value: Any) -> tuple[Any, ...]:
        """See the base class; a list becomes a tuple."""
        if not isinstance(value, list | tuple) or len(value) != len(self.rules):
            raise ValueError
        return tuple(rule.normal(item) for rule, item in zip(self.rules, value, strict=True))


def whole(option: str, value: object, most: int, least: int = 1) -> None:
    """Require a whole number from ``least`` to ``most``.

    Raises:
        ValueError: the value is no whole number, or is out of range.
    """
    Whole(most, least).require(option, value)


def one_of(option: str, value: object, allowed: Sequence[str]) -> None:
    """Require one of a few words.

    Raises:
        ValueError: the value is another.
    """
    Choice(tuple(allowed)).require(option, value)


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
