"""Tests of paths that return an answer instead of raising.

``pathlib`` raises if a parent folder is locked or a name is too long. Nothing can be read there in either case, and the
reason is reported when the file is opened.
"""

from __future__ import annotations

import os
from pathlib import Path


def exists(path: str | Path) -> bool:
    """Whether ``path`` exists. A broken link does not."""
    return os.path.exists(path)  # noqa: PTH110


def is_folder(path: str | Path) -> bool:
    """Whether ``path`` is a folder, or a link to one."""
    return os.path.isdir(path)  # noqa: PTH112


def is_file(path: str | Path) -> bool:
    """Whether ``path`` is a regular file or a link to one, and not a folder, pipe or device."""
    return os.path.isfile(path)  # noqa: PTH113


def why_not(path: Path) -> str:
    """Return the reason why nothing can be read at ``path``."""
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError, ValueError):
        pass
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    return "no such file or folder"


def place(path: Path) -> str:
    """Return the same text for a file however its folder was reached. A link keeps its own name."""
    return os.path.join(os.path.realpath(path.parent), path.name)  # noqa: PTH118 - a key, no path
