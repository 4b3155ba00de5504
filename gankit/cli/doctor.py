"""``gankit doctor``: what this machine offers, what is installed, and why a backend is out."""

from __future__ import annotations

from collections.abc import Mapping

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text


@click.command()
@click.option("--forget", is_flag=True, help="Forget what auto has chosen: the next run measures anew.")
def doctor(forget: bool) -> int:
    """Show what can run here, and why the rest cannot.

    Exit status: 0, or 1 where no backend can run.
    """
    if forget:
        from gankit.backends.choice.cache import clear

        count = clear()
        click.echo(f"{count} cached choice{'' if count == 1 else 's'} removed; the next run measures again")
        return 0
    from gankit.backends.choice.environment import environment

    found = environment()
    console = Console(highlight=False)
    console.print(_pairs("This machine", found.system))
    console.print()
    console.print(_pairs("Packages", {name: version or "not installed" for name, version in found.packages.items()}))
    console.print()
    console.print(_backends(found.backends))
    return 0 if any(usable for usable, *_ in found.backends.values()) else 1


def _backends(backends: Mapping[str, tuple[bool, str, tuple[str, ...]]]) -> Table:
    table = Table(
        "backend", "here", "precisions", "why", box=None, pad_edge=False, title="Backends", title_justify="left"
    )
    for name, (usable, why, precisions) in backends.items():
        state = Text("yes", style="green") if usable else Text("no", style="red")
        table.add_row(name, state, Text(", ".join(precisions)), Text(why))
    return table


def _pairs(title: str, rows: Mapping[str, str]) -> Table:
    table = Table("", "", show_header=False, box=None, pad_edge=False, title=title, title_justify="left")
    for name, value in rows.items():
        table.add_row(name, Text(value))
    return table
