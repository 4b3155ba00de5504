"""Questions about paths that are answered, not raised.

``pathlib`` raises where a folder on the way is locked or a name is too long; there is nothing to be had in either
case, and who opens the file tells why.
"""

from __future__ import annotations

import os
from pathlib import Path


def exists(path: str | Path) -> bool:
    """Whether anything can be found at ``path``; a broken link is nothing."""
    return os.path.exists(path)  # noqa: PTH110


def is_folder(path: str | Path) -> bool:
    """Whether ``path`` is a folder, or a link to one."""
    return os.path.isdir(path)  # noqa: PTH112


def is_file(path: str | Path) -> bool:
    """Whether ``path`` is a regular file, or a link to one: no folder, pipe or device."""
    return os.path.isfile(path)  # noqa: PTH113


def why_not(path: Path) -> str:
    """Why there is nothing to read at ``path``."""
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError, ValueError):
        pass
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    return "no such file or folder"


def place(path: Path) -> str:
    """One text for each name in a folder, however the folder was reached; a link keeps its own."""
    return os.path.join(os.path.realpath(path.parent), path.name)  # noqa: PTH118 - a key, no path
