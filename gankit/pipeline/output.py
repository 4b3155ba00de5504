"""Prepare output folders and write text files. Imports no torch."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from gankit_export.files import PARTIAL, atomic_path, partial_path

from gankit.errors import OutputError
from gankit.pipeline.paths import exists

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
        probe = partial_path(folder)
        probe.touch(exist_ok=False)  # permission bits miss read-only mounts, root and network folders
        probe.unlink()
    except OSError as error:
        reason = "a file is in its place" if isinstance(error, FileExistsError) else error.strerror
        raise OutputError(f"{folder}: the output folder cannot be written: {reason}; use another {option}") from error


def check_inside(folder: Path, roots: Iterable[Path]) -> None:
    """Check that no link leads from an output folder to a folder of results elsewhere.

    Whoever may write to an output folder could otherwise make gankit write to any folder of the user. The output folder
    itself may be a link, because the user named it.

    Args:
        folder: folder of a result. It need not exist.
        roots: the output folders. A folder below none of them is one that the user named.

    Raises:
        OutputError: If a link leads out of the output folder.
    """
    for root in roots:
        if folder == root or not folder.is_relative_to(root):
            continue
        real = os.path.realpath(root)
        for part in (*reversed(folder.parents), folder):
            if part != root and part.is_relative_to(root) and not Path(os.path.realpath(part)).is_relative_to(real):
                raise OutputError(
                    f"{part}: is a link that leads out of the output folder {root}, and gankit follows none; "
                    "remove it or use another --output"
                )


def roots_of(output: str | Path | None, places: Iterable[Path]) -> tuple[Path, ...]:
    """Return the output folders of a run: the one that the user named, or else the places beside the inputs."""
    return tuple(places) if output is None else (Path(output),)


def missing_folders(folder: Path) -> list[Path]:
    """Return the folder and those of its parents that do not exist, innermost first."""
    folder = folder.absolute()
    return [each for each in (folder, *folder.parents) if not exists(each)]


def remove_empty(folders: Sequence[Path]) -> None:
    """Remove folders, innermost first, up to the first one that holds something."""
    for folder in folders:
        try:
            folder.rmdir()
        except FileNotFoundError:  # it was never made, but its parents may have been
            continue
        except OSError:
            return


@contextmanager
def no_empty_folders(folders: Iterable[Path]) -> Iterator[None]:
    """If the block raises, remove those of the folders that it made and left empty.

    A run makes the folders of its results first, to learn whether they can be written before it works for hours.
    """
    made = [missing_folders(folder) for folder in folders]
    try:
        yield
    except BaseException:
        for each in made:
            remove_empty(each)
        raise


def remove_stale(folder: Path) -> None:
    """Delete the unfinished files in ``folder`` that are older than a day. A killed or crashed run leaves them."""
    with suppress(OSError):  # the folder does not exist yet or cannot be read
        for path in folder.iterdir():
            if PARTIAL.fullmatch(path.name):
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
