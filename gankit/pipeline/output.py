"""Folders and files that results go to. Imports no torch."""

from __future__ import annotations

import secrets
from contextlib import suppress
from pathlib import Path

from gankit.errors import OutputError


def prepare(folder: Path) -> None:
    """Make the output folder and see that it can be written, before any work is done.

    Raises:
        OutputError: it cannot be made or written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".gankit-{secrets.token_hex(8)}.part"
        probe.touch(exist_ok=False)  # permission bits alone say too little: read-only mounts, root, network folders
        probe.unlink()
    except OSError as error:
        reason = "a file is in its place" if isinstance(error, FileExistsError) else error.strerror
        raise OutputError(f"{folder}: the output folder cannot be written: {reason}; give another --output") from error


def write_whole(path: Path, text: str) -> None:
    """Write a text file under a temporary name, then rename it.

    Raises:
        OutputError: it cannot be written.
    """
    temporary = path.parent / f".gankit-{secrets.token_hex(8)}.part"
    try:
        with temporary.open("x", encoding="utf-8") as file:
            file.write(text)
        temporary.replace(path)
    except BaseException as error:
        with suppress(OSError):  # the first error is the one to tell
            temporary.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise OutputError(f"{path}: cannot be written: {error.strerror}") from error
        raise
