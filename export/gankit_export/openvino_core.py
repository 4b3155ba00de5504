"""The process's one OpenVINO core."""

from __future__ import annotations

from functools import cache
from threading import Lock
from typing import Any

_LOCK = Lock()


def openvino_core() -> Any:
    """The ``openvino.Core`` that everything in this process shares, in all its threads, kept until it ends.

    Its CPU plugin gives the thread an alternate signal stack and puts the former one back when it is destroyed. Two
    plugins that are not destroyed in reverse order leave a stack that was unmapped, and the next signal with a Python
    handler (Ctrl-C, the end of a child process) is a segmentation fault.

    Raises:
        ImportError: OpenVINO is not installed.
    """
    with _LOCK:  # a cache alone lets two threads in at once
        return _core()


@cache
def _core() -> Any:
    import openvino

    return openvino.Core()
