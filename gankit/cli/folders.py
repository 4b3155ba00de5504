"""Folders that a command makes for its results, and takes away again where it is refused."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from gankit.pipeline.paths import exists


def leave_no_empty_folders(folder: Path) -> None:
    """When the running command ends, remove the folder and its parents if it made them and nothing is in them.

    Commands make the folder of their results first, to learn whether it can be written before they work for hours.

    Args:
        folder: that the command is about to make.
    """
    context = click.get_current_context(silent=True)
    folder = folder.absolute()
    missing = [each for each in (folder, *folder.parents) if not exists(each)]
    if context is not None and missing:
        context.call_on_close(lambda: _remove_empty(missing))


def _remove_empty(folders: Sequence[Path]) -> None:
    for folder in folders:
        try:
            folder.rmdir()
        except FileNotFoundError:  # it was never made, but its parents may have been
            continue
        except OSError:  # something is in it
            return
