"""Page-locked (pinned) memory of the host, which a GPU reads and writes while the processor does something else.

Copies from and to pageable memory block the processor and are slow: an H100 copies 9 GB/s in and 16 GB/s out, and less
where the operating system must first provide the pages of the result; with pinned memory it copies 55 GB/s both ways.

Results are handed out in pinned memory. torch's allocator keeps what was released, so that after the first calls a
buffer costs microseconds, while a copy into fresh pageable memory would cost as much as the slow copy that it replaces.
Pinned memory cannot be swapped out, which is why a limit bounds it: results beyond it are pageable.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Sequence

import psutil
import torch
from torch import Tensor

_SHARE = 8  # one part in so many of the machine's memory
_MOST = 4 << 30
_LEAST_BLOCK = 512

Allocate = Callable[[int], Tensor]


def _allocate(size: int) -> Tensor:
    return torch.empty(size, dtype=torch.uint8, pin_memory=True)


def default_limit() -> int:
    """Return the largest number of bytes to pin: an eighth of the machine's memory, at most 4 GiB."""
    return min(_MOST, int(psutil.virtual_memory().total) // _SHARE)


class PinnedMemory:
    """Allocates pinned tensors up to a limit, and pageable ones beyond it. Threads may share an instance.

    Args:
        limit: largest number of bytes that are in use at a time; ``None`` uses :func:`default_limit`.
        allocate: returns a pinned one-dimensional uint8 tensor of so many bytes.
    """

    def __init__(self, limit: int | None = None, allocate: Allocate = _allocate) -> None:
        self._limit = default_limit() if limit is None else limit
        self._allocate = allocate
        self._lock = threading.RLock()  # a garbage collection may call _give in the thread that holds the lock
        self._used = 0

    @property
    def used(self) -> int:
        """Bytes of the tensors that are alive."""
        return self._used

    def empty(self, shape: Sequence[int], dtype: torch.dtype, *, channels_last: bool = False) -> Tensor:
        """Return an uninitialised tensor on the CPU, pinned if the limit and the system allow it.

        Its memory is free again when no tensor and no array that shares it is alive.

        Args:
            shape: (N, C, H, W), or any other shape if the tensor is not channels_last.
            dtype: dtype of the tensor.
            channels_last: whether the tensor is channels_last in memory.
        """
        inner = (shape[0], *shape[2:], shape[1]) if channels_last else tuple(shape)
        with torch.inference_mode(False):  # callers may change a result outside of inference mode
            tensor = self._dense(inner, dtype)
            return tensor.permute(0, 3, 1, 2) if channels_last else tensor

    def _dense(self, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        size = torch.Size(shape).numel() * dtype.itemsize
        # torch's allocator takes powers of 2
        block = max(_LEAST_BLOCK, 1 << (size - 1).bit_length()) if size else 0
        with self._lock:
            fits = self._used + block <= self._limit
            self._used += block if fits else 0
        if not fits or not size:
            return torch.empty(tuple(shape), dtype=dtype)
        try:
            memory = self._allocate(size)
        except RuntimeError:  # the system pins no more
            self._give(block)
            return torch.empty(tuple(shape), dtype=dtype)
        # Every tensor and array that shares the memory keeps this array alive, and an array can be watched.
        array = memory.view(dtype).numpy()
        weakref.finalize(array, self._give, block).atexit = False
        return torch.from_numpy(array).view(tuple(shape))

    def _give(self, block: int) -> None:
        with self._lock:
            self._used -= block
