"""What gankit raises: one line that names the file and the way out.

Every error that a user can cause is a :class:`GankitError`; the command line prints its text and leaves with
its ``exit_code``. Anything else is a fault of ours and is shown with its traceback.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from pathlib import Path


class GankitError(Exception):
    """Base of all errors that a user can cause. ``exit_code`` is the command's exit status."""

    exit_code = 2


class UsageError(GankitError):
    """A wrong path, name or option."""


class ImageError(GankitError):
    """One image cannot be read or written; the others go on.

    Args:
        path: the image.
        reason: what is wrong and what to do, without the file's name.
    """

    exit_code = 1

    def __init__(self, path: Path | str, reason: str) -> None:
        self.path = Path(path)
        self.reason = reason
        super().__init__(f"{path}: {reason}")


class OutputError(GankitError):
    """The output cannot take anything (no permission, disk full): the whole run stops."""


class CheckpointError(GankitError):
    """A weights file is missing, broken, unsafe or of an unknown architecture."""


class BackendError(GankitError):
    """A backend is not installed, or cannot run this generator, device or precision."""


class NotFiniteError(BackendError):
    """One image left the range of fp16 in the engine, which would make black patches; the others go on."""

    exit_code = 1


class ParityError(GankitError):
    """An engine's or an artefact's images are too far from the fp32 ones."""

    exit_code = 1


def hint(name: str, known: Iterable[str]) -> str:
    """What to say of a name that is not known.

    Args:
        name: as it was given.
        known: the names that there are.

    Returns:
        The nearest of them where one is near (difflib, 0.5), else all, as a part of a sentence.
    """
    names = list(known)
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    return f"did you mean '{near[0]}'?" if near else f"known are {', '.join(names)}"
