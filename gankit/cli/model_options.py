"""The option ``--model-option KEY=VALUE`` of every command that opens a weights file."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, TypeVar

import click

Command = TypeVar("Command", bound=Callable[..., Any])


class _Pair(click.ParamType):  # type: ignore[type-arg]
    """A name and a JSON value. A value that is not valid JSON is taken as text."""

    name = "key=value"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if isinstance(value, tuple):
            return value
        key, equals, text = str(value).partition("=")
        if not (key and equals):
            self.fail(f"'{value}' is not KEY=VALUE, such as activation=leaky", param, ctx)
        try:
            return key, json.loads(text)
        except (ValueError, RecursionError):
            return key, text


def _merged(ctx: click.Context, param: click.Parameter, pairs: tuple[tuple[str, Any], ...]) -> dict[str, Any]:
    options: dict[str, Any] = {}
    for key, value in pairs:
        if key in options:
            raise click.BadParameter(f"'{key}' is given twice", ctx, param)
        options[key] = value
    return options


def model_option(command: Command) -> Command:
    """Add the option to a command, which receives ``model_options``, a dictionary that may be empty."""
    decorate = click.option(
        "--model-option",
        "model_options",
        metavar="KEY=VALUE",
        type=_Pair(),
        multiple=True,
        callback=_merged,
        help="Model option that the weights file does not record, such as activation=leaky. VALUE is a word or JSON. "
        "`gankit models NAME` lists the options of a model. Can be repeated.",
    )
    return decorate(command)
