"""Refuse to run in a process that was forked after gankit had been used. Imports no torch.

A fork copies the memory of a process but only one of its threads. The locks and thread pools of torch, OpenMP, OpenVINO
and CUDA then wait for threads that do not exist, and the first call of an engine hangs.
"""

from __future__ import annotations

import os
from functools import cache

from gankit.errors import ForkedError


def check_process() -> None:
    """Check that this process is not a fork of one that has used gankit.

    The first call in a process claims it. A process that was started in any other way, or that was forked before the
    first call, has its own claim.

    Raises:
        ForkedError: If the process that was claimed is an ancestor of this one.
    """
    if is_forked():
        raise ForkedError(
            "gankit was used before this process was forked, and engines do not survive a fork; start processes with "
            "multiprocessing.get_context('spawn'), or use gankit in the child processes only"
        )
    _claimed()


def is_forked() -> bool:
    """Whether this process was forked from one that had called :func:`check_process`."""
    return bool(_claimed.cache_info().currsize) and _claimed() != os.getpid()


@cache
def _claimed() -> int:
    """Return the id of the process of the first call, which a fork inherits."""
    return os.getpid()
