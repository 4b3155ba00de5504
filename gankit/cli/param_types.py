"""Values of options: a number or ``auto``, a size in memory, a number of pixels, and the names of the file formats."""

from __future__ import annotations

import re
from typing import Any

import click

from gankit.images import FORMATS


class Auto(click.ParamType):  # type: ignore[type-arg]
    """A positive whole number, or ``auto``."""

    name = "auto|number"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the number, or the word."""
        if value == "auto" or (isinstance(value, int) and value > 0):
            return value
        if isinstance(value, str) and value.isascii() and value.isdigit() and int(value) > 0:
            return int(value)
        self.fail(f"'{value}' is neither 'auto' nor a whole number above 0", param, ctx)


class Size(click.ParamType):  # type: ignore[type-arg]
    """A number of bytes, written with MB, GB, MiB or GiB."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the number of bytes."""
        if isinstance(value, int):
            return value
        found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([MG])(i?)B?", str(value), re.IGNORECASE)
        size = 0.0
        if found:
            power = {"m": 2, "g": 3}[found[2].lower()]
            size = float(found[1]) * (1024 if found[3] else 1000) ** power
        if size < 1:
            self.fail(f"'{value}' is not a size such as 500MB or 2GiB", param, ctx)
        return int(size)


class Pixels(click.ParamType):  # type: ignore[type-arg]
    """A number of pixels, which may be written in megapixels (MP)."""

    name = "pixels"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the number of pixels."""
        if isinstance(value, int):
            return value
        found = re.fullmatch(r"(\d{1,15}(?:\.\d{1,9})?)\s*(MP?)?", str(value), re.IGNORECASE | re.ASCII)
        count = float(found[1]) * (1e6 if found[2] else 1) if found else 0
        if count < 1:
            self.fail(f"'{value}' is not a number of pixels such as 250MP", param, ctx)
        return int(count)


def format_names(*more: str) -> str:
    """Return the names that ``--format`` accepts, as part of a sentence.

    Args:
        more: names that only some commands accept.
    """
    names = [*FORMATS, *more]
    return f"{', '.join(names[:-1])} or {names[-1]}"
