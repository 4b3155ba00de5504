"""Claims on results in local folders, by which runs that write to them at the same time share the work. No torch.

A run claims a result before it reads the source, and gives the claim up when the result and its line in the journal are
written. A claim is a lock on one byte of the empty file ``.gankit.lock`` in the folder of the result, and the number of
the byte follows from the name of the result. The operating system releases the locks of a run that was killed. The last
run that uses the file removes it, and the next run removes one that was left behind.

Where the file cannot be made or locked, runs work as if they were alone.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from stat import S_ISREG
from typing import Self

from gankit.pipeline.byte_locks import PLACES, is_at, open_lock_file, share, try_lock, unlock
from gankit.pipeline.output import check_inside, missing_folders, remove_empty

NAME = ".gankit.lock"
_PRESENCE = 0  # a byte that all runs share which use the file; whoever has it alone may remove the file
_MOST_FOLDERS = 32  # whose files are kept open though nothing in them is claimed
_TRIES = 100


@dataclass
class _Folder:
    """A folder with claims.

    Attributes:
        file: descriptor of its lock file; ``None`` if it has none.
        made: folders that were made for it, innermost first.
        held: names of the results that are claimed, and their bytes.
    """

    file: int | None
    made: Sequence[Path]
    held: dict[str, int] = field(default_factory=dict)


class FolderClaims:
    """The claims of one run. May be used from several threads.

    Args:
        roots: the output folders, out of which no link is followed.
    """

    def __init__(self, roots: Sequence[Path] = ()) -> None:
        self._roots = tuple(roots)
        self._folders: dict[Path, _Folder] = {}
        self._lock = threading.Lock()

    def take(self, target: Path) -> bool:
        """Claim a result. Return whether this run has the claim now.

        Args:
            target: the result. Its folder is made if it is missing.

        Raises:
            OutputError: If a link leads out of the output folder.
        """
        with self._lock:
            folder = self._folder(target.parent)
            if folder.file is None or target.name in folder.held:
                return True
            place = _place(target.name)
            try:
                if place not in folder.held.values() and not try_lock(folder.file, place):
                    return False
            except OSError:  # the file system has no locks
                return True
            folder.held[target.name] = place
            return True

    def release(self, target: Path) -> None:
        """Give up a claim, if this run has it."""
        with self._lock:
            folder = self._folders.get(target.parent)
            if folder is None:
                return
            place = folder.held.pop(target.name, None)
            if folder.file is not None and place is not None and place not in folder.held.values():
                with suppress(OSError):
                    unlock(folder.file, place)
            if not folder.held and len(self._folders) > _MOST_FOLDERS:
                _close(target.parent, self._folders.pop(target.parent))

    def give_up(self) -> None:
        """Give up all claims."""
        with self._lock:
            while self._folders:
                _close(*self._folders.popitem())

    def close(self) -> None:
        """Give up all claims."""
        self.give_up()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _folder(self, path: Path) -> _Folder:
        if path not in self._folders:
            check_inside(path, self._roots)
            made = missing_folders(path)
            file = None
            with suppress(OSError):  # nothing can be written here, which the result itself will show
                path.mkdir(parents=True, exist_ok=True)
                file = _open(path / NAME)
            self._folders[path] = _Folder(file, made)
        return self._folders[path]


def remove_unused(folder: Path) -> None:
    """Remove the lock file of a folder, unless a run uses it. A run that was killed leaves it behind."""
    path = folder / NAME
    with suppress(OSError):  # there is none, or on Windows, somebody has it open
        if not S_ISREG(path.lstat().st_mode):
            return
        if os.name == "nt":
            path.unlink()
            return
        file = open_lock_file(path, create=False)
        try:
            if try_lock(file, _PRESENCE) and is_at(file, path):
                path.unlink()
        finally:
            os.close(file)


def _place(name: str) -> int:
    digest = hashlib.sha256(os.fsencode(name)).digest()
    return 1 + int.from_bytes(digest[:8], "big") % (PLACES - 2)


def _open(path: Path) -> int | None:
    """Open a lock file so that nobody removes it; ``None`` if it is not to be had."""
    for _ in range(_TRIES):
        file = open_lock_file(path)
        try:
            if not S_ISREG(os.fstat(file).st_mode):
                break
            share(file, _PRESENCE)
        except OSError:
            break
        if is_at(file, path):
            return file
        os.close(file)  # its last user has removed it
    else:
        return None
    os.close(file)
    return None


def _close(path: Path, folder: _Folder) -> None:
    if folder.file is not None:
        os.close(folder.file)
        remove_unused(path)
    remove_empty(folder.made)
