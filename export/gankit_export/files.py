"""Files that appear whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
from collections.abc import Iterator
from pathlib import Path

PARTIAL = re.compile(r"\.gankit-[0-9a-f]{16}\.part(\.\w+)?")
"""The names of files that are being written. A process that was killed may leave one behind."""
_NO_SYNC = (errno.EINVAL, errno.ENOTSUP, errno.ENOSYS)  # file systems that have no such thing


def partial_path(folder: Path, suffix: str = "") -> Path:
    """A new name in a folder that :data:`PARTIAL` matches: hidden, and short whatever the file's own name is.

    Args:
        folder: where the file will be.
        suffix: what the name ends in, such as ``".onnx"``; ``""`` for ``.part`` alone.
    """
    return folder / f".gankit-{secrets.token_hex(8)}.part{suffix}"


@contextlib.contextmanager
def atomic_path(path: Path | str, *, sync: bool = False, suffix: str = "") -> Iterator[Path]:
    """Write a file under a temporary name beside its target, and rename it once it is complete.

    Readers and later runs never see part of a file. If the block raises anything, Ctrl-C included, the temporary file
    is removed, and a file that was at ``path`` before stays as it was.

    Args:
        path: the file to write; replaced if it exists. Its folder must exist.
        sync: wait until the data are on the disk before the rename. Otherwise a power failure may keep the rename and
            lose the data, and network disks that run full late do not report it.
        suffix: of the temporary name, for writers and readers that choose the format by it.

    Yields:
        The temporary path, where nothing exists yet. Create the file with ``open`` or ``Path.open``, so that the umask
        decides its permissions.

    Raises:
        OSError: the file cannot be written or renamed.

    Example:
        >>> with atomic_path("report.json") as temporary:  # doctest: +SKIP
        ...     temporary.write_text("{}")
    """
    path = Path(path)
    temporary = partial_path(path.parent, suffix)
    try:
        yield temporary
        if sync:
            _wait_for_disk(temporary)
        temporary.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):  # the first error is the one to report
            temporary.unlink(missing_ok=True)
        raise


def append_bytes(path: Path | str, data: bytes) -> None:
    """Append to a file in one write, and create it if it is missing.

    A link in its place is refused: whoever may write to a folder of results could otherwise make gankit write to any
    file of the user. A file that is replaced as a whole needs no such check, because the new one takes the place of the
    link.

    Raises:
        OSError: the file cannot be written, or is a link (``errno.ELOOP``).
    """
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0)
    flags |= getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
    try:
        number = os.open(path, flags, 0o666)  # the umask decides
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.EMLINK) and Path(path).is_symlink():
            raise OSError(errno.ELOOP, "it is a link, and gankit follows none there; remove it", str(path)) from None
        raise
    with os.fdopen(number, "ab", buffering=0) as file:
        while data:  # a disk that is nearly full takes a part
            data = data[file.write(data) :]


def _wait_for_disk(path: Path) -> None:
    with path.open("rb+") as file:
        try:
            os.fsync(file.fileno())
        except OSError as error:
            if error.errno not in _NO_SYNC:
                raise
