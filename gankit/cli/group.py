"""A group whose commands are imported when they run, not when they are listed. Imports only click."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import click

from gankit.errors import hint


@dataclass(frozen=True)
class Entry:
    """A command.

    Attributes:
        target: location of the command as ``module:attribute``, with the module inside the group's package.
        help: its line in the list of commands.
    """

    target: str
    help: str


class LazyGroup(click.Group):
    """A group that imports commands on demand and suggests the nearest name for an unknown one.

    Args:
        package: name of the package whose modules hold the commands.
        entries: the commands by name, in the order in which they are listed.
        noun: what the help and the error messages call an entry.
        options: the arguments of :class:`click.Group`.
    """

    def __init__(self, *, package: str, entries: Mapping[str, Entry], noun: str = "command", **options: Any) -> None:
        super().__init__(**options)
        self.package, self.entries, self.noun = package, entries, noun

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of the commands."""
        return list(self.entries)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return a command; ``None`` if there is none of that name."""
        if cmd_name not in self.entries:
            return None
        module, _, attribute = self.entries[cmd_name].target.partition(":")
        command: click.Command = getattr(import_module(f"{self.package}.{module}"), attribute)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command that the first argument names; return it with the other arguments."""
        if self.get_command(ctx, args[0]) is None and not (args[0].startswith("-") or ctx.resilient_parsing):
            ctx.fail(f"No such {self.noun} '{args[0]}': {hint(args[0], self.entries)}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands with one line of help each, without importing them."""
        with formatter.section(f"{self.noun.capitalize()}s"):
            formatter.write_dl([(name, entry.help) for name, entry in self.entries.items()])
