"""A group of commands that are imported when they run, not when they are listed. Imports click only."""

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
        target: where it is, as ``module:attribute``, the module below the group's package.
        help: what the list of commands says of it.
    """

    target: str
    help: str


class LazyGroup(click.Group):
    """A group that tells the nearest name for one that it does not have.

    Args:
        package: whose modules hold the commands.
        entries: the commands by name, in the order of the list.
        noun: what they are.
        options: as of any group.
    """

    def __init__(self, *, package: str, entries: Mapping[str, Entry], noun: str = "command", **options: Any) -> None:
        super().__init__(**options)
        self.package, self.entries, self.noun = package, entries, noun

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names."""
        return list(self.entries)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command, imported now."""
        if cmd_name not in self.entries:
            return None
        module, _, attribute = self.entries[cmd_name].target.partition(":")
        command: click.Command = getattr(import_module(f"{self.package}.{module}"), attribute)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command that the first argument names, and the other arguments."""
        if self.get_command(ctx, args[0]) is None and not (args[0].startswith("-") or ctx.resilient_parsing):
            ctx.fail(f"No such {self.noun} '{args[0]}': {hint(args[0], self.entries)}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """A line each, without importing them."""
        with formatter.section(f"{self.noun.capitalize()}s"):
            formatter.write_dl([(name, entry.help) for name, entry in self.entries.items()])
