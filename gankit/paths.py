"""The folder of gankit's cache. Imports no torch."""

from __future__ import annotations

import atexit
import os
import shutil
import stat
import tempfile
from functools import cache
from pathlib import Path

from platformdirs import user_cache_path


def cache_folder() -> Path:
    """Return the folder of gankit's cache, which need not exist.

    This is ``$GANKIT_CACHE``, or else a folder in the user's cache. If the user has no home, as in a container with an
    unknown uid, it is a folder of this user in the temporary folder.
    """
    chosen = os.environ.get("GANKIT_CACHE")
    if chosen:
        return Path(chosen)
    return _own() or _temporary()


def cache_notice() -> str | None:
    """Return a line to report if the cache is temporary because the user has no home; otherwise ``None``."""
    if os.environ.get("GANKIT_CACHE") or _own():
        return None
    why = "this user has no home folder that can be written"
    return f"{why}; the cache is {_temporary()} (set GANKIT_CACHE to use another folder)"


def _own() -> Path | None:
    """Return the folder in the user's cache; ``None`` if it is unknown, or cannot be created or written."""
    try:
        folder = user_cache_path("gankit", appauthor=False)
    except RuntimeError:  # neither HOME nor the user database has a home
        return None
    if not folder.is_absolute():  # older releases of platformdirs leave "~" as it is
        return None
    there = next((path for path in (folder, *folder.parents) if os.path.lexists(path)), folder)
    return folder if os.access(there, os.W_OK | os.X_OK) else None


def _temporary() -> Path:
    """Return a folder in the temporary folder that belongs to this user.

    Other users can create folders there. One that is not this user's own, or that others can write, is not used: files
    in the cache are run.
    """
    name = f"gankit-cache-{os.getuid()}" if hasattr(os, "getuid") else "gankit-cache"
    folder = Path(tempfile.gettempdir()) / name
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
        own = stat.S_ISDIR(found.st_mode) and (not hasattr(os, "getuid") or found.st_uid == os.getuid())
        if own and not found.st_mode & 0o022:
            return folder
    except OSError:
        pass
    return _private()


@cache
def _private() -> Path:
    """Return a folder that is removed when the process ends."""
    folder = Path(tempfile.mkdtemp(prefix="gankit-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder
