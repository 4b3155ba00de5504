"""``--model-option KEY=VALUE``, of every command that opens a weights file."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, TypeVar

import click

Command = TypeVar("Command", bound=Callable[..., Any])


class _Pair(click.ParamType):
    """A name and a JSON value, or a text where it is none."""

    name = "key=value"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if isinstance(value, tuple):
            return value
        key, equals, text = str(value).partition("=")
        if not (key and equals):
            self.fail(f"'{value}' is not KEY=VALUE", param, ctx)
        try:
            return key, json.loads(text)
        except (ValueError, RecursionError):
            return key, text


def _together(ctx: click.Context, param: click.Parameter, pairs: tuple[tuple[str, Any], ...]) -> dict[str, Any]:
    options: dict[str, Any] = {}
    for key, value in pairs:
        if key in options:
            raise click.BadParameter(f"'{key}' is given twice", ctx, param)
        options[key] = value
    return options


def model_option(command: Command) -> Command:
    """Add the option; the command gets ``model_options``, a dictionary, empty where none was given."""
    decorate = click.option(
        "--model-option",
        "model_options",
        metavar="KEY=VALUE",
        type=_Pair(),
        multiple=True,
        callback=_together,
        help="What the weights file does not tell, such as activation=leaky; can be repeated.",
    )
    return decorate(command)
