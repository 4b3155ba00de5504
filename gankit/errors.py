"""The errors that gankit raises. Each message is one line that names the file and the next step.

Every error that a user can cause is a :class:`GankitError`. The command line prints its message and exits with its
``exit_code``. The one exception to this is a keyword argument that does not exist, which is a :class:`TypeError` as for
any Python function. Any other exception is a bug in gankit and is shown with its traceback.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from pathlib import Path


class GankitError(Exception):
    """Base class of all errors that a user can cause. ``exit_code`` is the exit status of the command."""

    exit_code = 2


class UsageError(GankitError):
    """A path, a name or an option is wrong."""


class FactsError(UsageError, ValueError):
    """A fact of a generator is out of its range, or two facts contradict each other."""


class ForkedError(UsageError):
    """A process that was forked after its parent had used gankit cannot use gankit itself."""


class ImageError(GankitError):
    """One image cannot be read or written; the run continues with the others.

    Args:
        path: the image file.
        reason: what is wrong and what to do, without the file name.
    """

    exit_code = 1

    def __init__(self, path: Path | str, reason: str) -> None:
        self.path = Path(path)
        self.reason = reason
        super().__init__(f"{path}: {reason}")


class OutputError(GankitError):
    """The output cannot be written (no permission, disk full); the whole run stops."""


class CheckpointError(GankitError):
    """A weights file is missing, damaged or unsafe, or its architecture is unknown."""


class BackendError(GankitError):
    """A backend is not installed, or cannot run this generator on this device in this precision."""


class NotFiniteError(BackendError):
    """The values of one image exceeded the range of fp16; the run continues with the others."""

    exit_code = 1


class NoMemoryError(GankitError, MemoryError):
    """Something takes more memory than is available. An image fails with it, and the run continues with the others."""

    exit_code = 1


class ImageMemoryError(ImageError, NoMemoryError):
    """One image takes more memory to decode or to encode than is available; beside fewer images it may fit."""


class ParityError(GankitError):
    """The images of an engine or an artefact are too far from the fp32 ones."""

    exit_code = 1


def hint(name: str, known: Iterable[str]) -> str:
    """Suggest a valid name in place of an unknown one.

    Args:
        name: the name that the user gave.
        known: all valid names.

    Returns:
        The end of a message, with the closest valid name if one is similar (difflib ratio of at least 0.5), otherwise
        with all names.
    """
    names = list(known)
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    return f"did you mean '{near[0]}'?" if near else f"choose from {', '.join(names)}"


def first_line(error: BaseException) -> str:
    """Return the first line of an error message, at most 300 characters; its class name if the message is empty."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0][:300] if lines else type(error).__name__
