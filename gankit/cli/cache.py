"""``gankit cache``: list, verify and remove the files that gankit keeps between runs."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING

import click

from gankit.cli.param_types import Size
from gankit.errors import UsageError

if TYPE_CHECKING:
    from gankit.backends.cached import CachedFile


@click.group()
def cache() -> None:
    """List, verify and remove the files that gankit keeps between runs.

    These are exported models, TensorRT engines, the code of --backend compile, choices of --backend auto, and records
    of what weights files are.
    gankit verifies each file before it uses it, and makes a file again that is missing, so that you can remove all of
    them at any time.
    """


@cache.command()
def path() -> None:
    """Print the folder of the cache."""
    from gankit.paths import cache_folder

    click.echo(str(cache_folder()))


@cache.command("list")
def list_() -> None:
    """List the cached files, those that were used last first."""
    from gankit.backends.cached import cached_files

    found = cached_files()
    _print(found)
    click.echo(_total(found))


@cache.command()
@click.option("--remove", is_flag=True, help="Delete the files that are damaged.")
def verify(remove: bool) -> int:
    """Compare every cached file with its checksum.

    Exit status: 0 if all are as gankit wrote them, 1 if not.
    """
    from gankit.backends.cached import cached_files

    found = cached_files()
    damaged = 0
    for item in found:
        if (problem := item.problem()) is None:
            continue
        damaged += 1
        if remove:
            item.delete()
        click.echo(f"{item.path}: {problem}{'; removed' if remove else ''}")
    click.echo(f"{len(found) - damaged} of {len(found)} files are as gankit wrote them")
    return 1 if damaged else 0


@cache.command()
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option("--all", "every", is_flag=True, help="Remove all files.")
@click.option(
    "--max-size", type=Size(), help="Remove files, least recently used first, until the rest fits, such as 2GB."
)
def remove(names: tuple[str, ...], every: bool, max_size: int | None) -> None:
    """Remove cached files.

    NAME is the name of a model, the name of a file, or a quoted pattern such as 'srgan-*.engine'.
    """
    from gankit.backends.cached import beyond, chosen

    if (bool(names), every, max_size is not None).count(True) != 1:
        raise UsageError("give names, --all or --max-size, and one of them only")
    found = chosen(names) if names else beyond(0 if max_size is None else max_size)
    for item in found:
        item.delete()
    click.echo(f"removed {_total(found)}")


def _print(found: Sequence[CachedFile]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    if not found:
        return
    table = Table("kind", "model", "size", "last used", "file", box=None, pad_edge=False)
    for item in found:
        used = f"{datetime.fromtimestamp(item.used):%Y-%m-%d %H:%M}"
        table.add_row(item.kind, Text(item.model), _size(item.size), used, Text(item.path.name, overflow="fold"))
    Console(highlight=False).print(table)


def _total(found: Sequence[CachedFile]) -> str:
    return f"{len(found)} file{'' if len(found) == 1 else 's'}, {_size(sum(item.size for item in found))}"


def _size(count: int) -> str:
    return f"{count / 1e6:.1f} MB" if count >= 1e5 else f"{count / 1e3:.1f} kB"
