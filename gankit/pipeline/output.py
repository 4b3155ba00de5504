"""Prepare output folders and write text files. Imports no torch."""

from __future__ import annotations

import re
import secrets
import time
from contextlib import suppress
from pathlib import Path

from gankit_export.files import atomic_path

from gankit.errors import OutputError

_PART = re.compile(r"\.gankit-[0-9a-f]{16}\.part")
_STALE_SECONDS = 86400.0


def prepare(folder: Path, option: str = "--output") -> None:
    """Create the output folder and check that it can be written, before any work is done.

    Args:
        folder: the folder, which is created with its parents if it is missing.
        option: the option that the error message names.

    Raises:
        OutputError: If the folder cannot be created or written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".gankit-{secrets.token_hex(8)}.part"
        probe.touch(exist_ok=False)  # permission bits miss read-only mounts, root and network folders
        probe.unlink()
    except OSError as error:
        reason = "a file is in its place" if isinstance(error, FileExistsError) else error.strerror
        raise OutputError(f"{folder}: the output folder cannot be written: {reason}; use another {option}") from error


def remove_stale(folder: Path) -> None:
    """Delete the unfinished files in ``folder`` that are older than a day. A killed or crashed run leaves them."""
    with suppress(OSError):  # the folder does not exist yet or cannot be read
        for path in folder.iterdir():
            if _PART.fullmatch(path.name):
                with suppress(OSError):  # another run may be doing the same
                    if time.time() - path.stat().st_mtime > _STALE_SECONDS:
                        path.unlink()


def write_whole(path: Path, text: str) -> None:
    """Write a text file, whole or not at all.

    Raises:
        OutputError: If the file cannot be written.
    """
    try:
        with atomic_path(path, sync=True) as temporary:
            # file names in the text may contain undecodable bytes
            temporary.write_text(text, encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        raise OutputError(f"{path}: cannot be written: {error.strerror}") from error
