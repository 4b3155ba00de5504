"""The folder in which torch's compiler keeps its code between runs. Importing this module imports no torch."""

from __future__ import annotations

import os
from contextlib import suppress

from gankit.paths import cache_folder
from gankit.version import installed_version

VARIABLE = "TORCHINDUCTOR_CACHE_DIR"
FOLDER = "inductor"


def use_inductor_cache() -> None:
    """Let torch's compiler keep its code in gankit's cache, from which later runs start in seconds.

    By default it uses the temporary folder, which many machines empty when they start. The variable of torch belongs to
    the process, and other compilations of the program use the same folder then. A folder that the user or an earlier
    compilation has set stays, and so does the default if gankit's cache cannot be written.
    """
    if os.environ.get(VARIABLE):
        return
    folder = cache_folder() / FOLDER / f"torch-{installed_version('torch')}"
    with suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        os.environ[VARIABLE] = str(folder)
