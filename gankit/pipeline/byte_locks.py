"""Locks on single bytes of a file, by which processes agree without writing anything. Imports no torch.

The operating system releases the locks of a process that ends, however it ends. On Linux a lock belongs to an open
file, so that two runs in one process exclude each other as well. On other systems it belongs to the process.
"""

from __future__ import annotations

import errno
import os
import struct
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_TAKEN = (errno.EACCES, errno.EAGAIN, errno.EDEADLK)
PLACES = 1 << (30 if os.name == "nt" else 62)
"""Number of bytes that can be locked. The file need not hold them."""
_TRIES = 100

if sys.platform == "win32":
    import msvcrt

    def _lock(file: int, place: int) -> None:
        os.lseek(file, place, os.SEEK_SET)
        msvcrt.locking(file, msvcrt.LK_NBLCK, 1)

    def unlock(file: int, place: int) -> None:
        """Release a byte."""
        os.lseek(file, place, os.SEEK_SET)
        msvcrt.locking(file, msvcrt.LK_UNLCK, 1)

    def share(file: int, place: int) -> None:
        """Do nothing, because Windows keeps a file that is open from being removed."""

else:
    import fcntl

    _LINUX = sys.platform == "linux"

    def _lock(file: int, place: int) -> None:
        _set(file, fcntl.LOCK_EX | fcntl.LOCK_NB, place)

    def unlock(file: int, place: int) -> None:
        """Release a byte."""
        _set(file, fcntl.LOCK_UN, place)

    def share(file: int, place: int) -> None:
        """Lock a byte together with others that share it; wait for whoever has it alone.

        Raises:
            OSError: If the file system has no locks.
        """
        _set(file, fcntl.LOCK_SH, place)

    def _set(file: int, kind: int, place: int) -> None:
        if not _LINUX:
            fcntl.lockf(file, kind, 1, place)
            return
        types = {fcntl.LOCK_EX: fcntl.F_WRLCK, fcntl.LOCK_SH: fcntl.F_RDLCK, fcntl.LOCK_UN: fcntl.F_UNLCK}
        command = fcntl.F_OFD_SETLK if kind & fcntl.LOCK_NB or kind == fcntl.LOCK_UN else fcntl.F_OFD_SETLKW
        # struct flock: type, whence, start, length, process (0 for a lock of an open file), and its padding
        fcntl.fcntl(file, command, struct.pack("hhqqi0q", types[kind & ~fcntl.LOCK_NB], os.SEEK_SET, place, 1, 0))


def try_lock(file: int, place: int) -> bool:
    """Lock a byte if nobody else has; return whether this was so.

    Args:
        file: descriptor of a file that is open for writing.
        place: number of the byte, below :data:`PLACES`.

    Raises:
        OSError: If the file system has no locks.
    """
    try:
        _lock(file, place)
    except OSError as error:
        if error.errno in _TAKEN:
            return False
        raise
    return True


def open_lock_file(path: Path, *, create: bool = True) -> int:
    """Open a file whose bytes can be locked, and return its descriptor.

    Args:
        path: the file.
        create: whether to create it if it is missing.

    Raises:
        OSError: If it cannot be opened, or there is a link or anything else in its place.
    """
    flags = os.O_RDWR | (os.O_CREAT if create else 0)
    for name in ("O_NOFOLLOW", "O_NONBLOCK", "O_CLOEXEC", "O_BINARY", "O_NOINHERIT"):
        flags |= getattr(os, name, 0)
    return os.open(path, flags, 0o666)  # the umask decides


def is_at(file: int, path: Path) -> bool:
    """Whether an open file is still the one at ``path``."""
    try:
        return os.path.samestat(os.fstat(file), path.lstat())
    except OSError:
        return False


@contextmanager
def whole(path: Path) -> Iterator[None]:
    """Keep other processes that do the same from changing or replacing a file inside the block, where locks exist.

    Args:
        path: the file, which is created if it is missing. A link is not followed, nor locked.
    """
    if sys.platform == "win32":
        yield
        return
    file = None
    with suppress(OSError):  # no locks here, no permission, or a link, of which whoever writes the file complains
        for _ in range(_TRIES):
            if file is not None:
                break
            found = open_lock_file(path)
            try:
                fcntl.flock(found, fcntl.LOCK_EX)
                if is_at(found, path):
                    file = found
            finally:
                if file is None:  # somebody has replaced it
                    os.close(found)
    try:
        yield
    finally:
        if file is not None:
            os.close(file)
