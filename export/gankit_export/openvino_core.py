"""The process's one OpenVINO core."""

from __future__ import annotations

from functools import cache
from typing import Any


@cache
def openvino_core() -> Any:
    """The ``openvino.Core`` that everything in this process shares, kept until it ends.

    Its CPU plugin gives the thread an alternate signal stack and puts the former one back when it is destroyed. Two
    plugins that are not destroyed in reverse order leave a stack that was unmapped, and the next signal with a Python
    handler (Ctrl-C, the end of a child process) is a segmentation fault.

    Raises:
        ImportError: OpenVINO is not installed.
    """
    import openvino

    return openvino.Core()
