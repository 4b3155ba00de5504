"""PyAV, which is imported when the first clip is opened, and its errors as one line."""

from __future__ import annotations

import errno
import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gankit.errors import ImageError, OutputError, UsageError

MISSING = "clips need PyAV: pip install 'gankit[video]'"
_OUTPUT_ERRORS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS, errno.EIO})


def is_installed() -> bool:
    """Whether PyAV can be imported."""
    return importlib.util.find_spec("av") is not None


def library() -> Any:
    """Import PyAV.

    Raises:
        UsageError: If it is not installed.
    """
    try:
        import av
    except ImportError as error:
        raise UsageError(f"{MISSING} ({error})" if is_installed() else MISSING) from None
    return av


@contextmanager
def readable(path: Path, what: str = "cannot be read as a video") -> Iterator[None]:
    """Turn the errors of FFmpeg inside the block into one line that names the clip.

    Args:
        path: the clip.
        what: what failed, as the end of "the clip …".

    Raises:
        ImageError: If the block raises an error of FFmpeg.
    """
    try:
        yield
    except library().error.FFmpegError as error:
        reason = (error.strerror or str(error)).rstrip(".").lower()
        raise ImageError(path, f"{what}: {reason}; the file may be damaged or incomplete") from error


@contextmanager
def writable(path: Path) -> Iterator[None]:
    """Turn the errors of writing inside the block into one line that names the file.

    Args:
        path: the file that the user expects.

    Raises:
        OutputError: If the disk is full or may not be written, which ends the run.
        ImageError: If the file cannot be written for another reason.
    """
    try:
        yield
    except (OSError, library().error.FFmpegError) as error:
        reason = (error.strerror or str(error)).rstrip(".").lower()
        if error.errno in _OUTPUT_ERRORS:
            raise OutputError(f"{path}: cannot be written: {reason}") from error
        raise ImageError(path, f"cannot be written: {reason}") from error
