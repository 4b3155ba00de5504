"""``gankit doctor``: describe the machine, the installed packages, and the backends with why some cannot run."""

from __future__ import annotations

from collections.abc import Mapping

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text


@click.command()
@click.option(
    "--forget",
    is_flag=True,
    help="Delete the cached choices of --backend auto and exit. The next run measures the backends again.",
)
def doctor(forget: bool) -> int:
    """Show what this machine can run.

    The page lists the machine, the installed packages and the backends. For a backend that cannot run here, it gives
    the reason and what to install.

    Exit status: 0 if at least one backend can run, 1 if none can.
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
        "backend", "usable", "precisions", "remarks", box=None, pad_edge=False, title="Backends", title_justify="left"
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
