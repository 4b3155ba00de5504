"""The errors that gankit raises: each is one line that names the file and what to do.

Every error that a user can cause is a :class:`GankitError`; the command line prints its text and exits with
its ``exit_code``. Any other exception is a bug in gankit and is shown with its traceback.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from pathlib import Path


class GankitError(Exception):
    """Base class of all errors that a user can cause. ``exit_code`` is the exit status of the command."""

    exit_code = 2


class UsageError(GankitError):
    """A path, name or option is wrong."""


class ImageError(GankitError):
    """One image cannot be read or written; the run continues with the others.

    Args:
        path: the image file.
        reason: what is wrong and what to do, without the name of the file.
    """

    exit_code = 1

    def __init__(self, path: Path | str, reason: str) -> None:
        self.path = Path(path)
        self.reason = reason
        super().__init__(f"{path}: {reason}")


class OutputError(GankitError):
    """Nothing can be written to the output (no permission, disk full); the whole run stops."""


class CheckpointError(GankitError):
    """A weights file is missing, damaged, unsafe or of an unknown architecture."""


class BackendError(GankitError):
    """A backend is not installed, or cannot run this generator on this device in this precision."""


class NotFiniteError(BackendError):
    """One image left the range of fp16 and would have black patches; the run continues with the others."""

    exit_code = 1


class ParityError(GankitError):
    """The images of an engine or an artefact are too far from the fp32 ones."""

    exit_code = 1


def hint(name: str, known: Iterable[str]) -> str:
    """A suggestion for a name that is not known.

    Args:
        name: the name that the user gave.
        known: all valid names.

    Returns:
        Part of a sentence: the closest valid name if one is similar (difflib ratio of 0.5 or more), otherwise all.
    """
    names = list(known)
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    return f"did you mean '{near[0]}'?" if near else f"known are {', '.join(names)}"
