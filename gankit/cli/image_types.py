"""Option values that concern images: a number of pixels, and the names of the file formats."""

from __future__ import annotations

import re
from typing import Any

import click

from gankit.images import FORMATS


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


def format_names() -> str:
    """Return the names that ``--format`` accepts, as part of a sentence."""
    names = list(FORMATS)
    return f"{', '.join(names[:-1])} or {names[-1]}"
