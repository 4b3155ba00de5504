"""How runtimes report that memory ran out, and how much of a GPU's is free.

Importing this module imports no torch.
"""

from __future__ import annotations

import sys

from gankit.backends.base import EngineMemoryError

# In lower case. The first three are from torch's CPU allocator on Linux and Windows and from C++. "out of memory" is
# from CUDA and its allocator, "alloc_failed" from cuDNN and cuBLAS. cuDNN also finds no engine for a convolution if
# none of its engines gets the work space.
_WORDS = (
    "can't allocate memory",
    "defaultcpuallocator",
    "bad_alloc",
    "out of memory",
    "alloc_failed",
    "unable to find an engine",
)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error means that the memory of the CPU or of the GPU ran out.

    torch's allocator for CUDA has an exception of its own, and engines have theirs. The libraries only have messages.

    Args:
        error: any exception.
    """
    if isinstance(error, EngineMemoryError):
        return True
    if "torch" in sys.modules:  # otherwise nothing raised its exception
        import torch

        if isinstance(error, torch.OutOfMemoryError):
            return True
    text = str(error).lower()
    return any(word in text for word in _WORDS)


def free_memory(device: str) -> int:
    """Return the bytes of a GPU that this process can still allocate.

    torch keeps the memory that tensors no longer use, for the next ones. It is reserved, so that the driver does not
    count it as free, but it is not allocated.

    Args:
        device: ``"cuda"``, ``"cuda:1"``, …, or several of them after commas, of which the fullest counts.
    """
    return min(map(_free, device.split(",")))


def _free(device: str) -> int:
    import torch

    free, _ = torch.cuda.mem_get_info(device)
    return int(free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device))


def empty_cache(device: str) -> None:
    """Give back the memory that torch keeps on a GPU for later tensors.

    Args:
        device: device of the engine; a CPU has no such memory.
    """
    if not device.startswith("cpu"):
        import torch

        torch.cuda.empty_cache()
