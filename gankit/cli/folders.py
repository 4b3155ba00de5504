"""Folders that a command makes for its results, and takes away again where it is refused."""

from __future__ import annotations

from pathlib import Path

import click

from gankit.pipeline.output import missing_folders, remove_empty


def leave_no_empty_folders(folder: Path) -> None:
    """When the running command ends, remove the folder and its parents if it made them and nothing is in them.

    Commands make the folder of their results first, to learn whether it can be written before they work for hours.

    Args:
        folder: that the command is about to make.
    """
    context, missing = click.get_current_context(silent=True), missing_folders(folder)
    if context is not None and missing:
        context.call_on_close(lambda: remove_empty(missing))
