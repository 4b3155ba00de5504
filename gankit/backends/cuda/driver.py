"""Whether there is a GPU that torch can use. Imports torch only if the driver of one is installed."""

from __future__ import annotations

import ctypes
import sys
from functools import cache
from pathlib import Path

_KERNEL_DRIVERS = (Path("/proc/driver/nvidia"), Path("/dev/kfd"))  # of NVIDIA and of AMD
_LIBRARIES = {"win32": "nvcuda.dll", "linux": "libcuda.so.1"}


def cuda_available() -> bool:
    """Whether torch finds a GPU. Without a driver, the answer is no, and torch is not imported for it."""
    if "torch" not in sys.modules and not driver_installed():
        return False
    import torch

    return torch.cuda.is_available()


@cache
def driver_installed() -> bool:
    """Whether the driver of a GPU is loaded, or its library can be."""
    if any(path.exists() for path in _KERNEL_DRIVERS):
        return True
    library = _LIBRARIES.get(sys.platform)
    if library is None:
        return False
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True
