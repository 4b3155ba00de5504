"""How much memory this process may still use, also in a container or under a limit. Imports no torch."""

from __future__ import annotations

import ctypes
import gc
import math
import os
import sys
from collections import deque
from functools import cache
from pathlib import Path
from typing import Any

from gankit.errors import NoMemoryError

_TORCH_BYTES = 190 << 20
_TORCH_ADDRESSES = (
    800 << 20
)  # its libraries take 600 MiB of address space; short of that, they abort in ways of their own
_NO_ADDRESSES = ("failed to map", "cannot map", "cannot allocate", "Cannot allocate", "bad_alloc")
_CACHED_LAYERS = "64"  # RRDB, the deepest network here, has ten kinds of layers, each for some heights of strips
_KEPT_SHAPES = 8
_KEPT_BYTES = 128 << 20  # as an image of 0.1 MP leaves; to clear its pages once more took an eighth of its time
_KEPT_SHARE = 8  # of the available memory, an eighth


def available_memory(limit: int | None = None, root: Path = Path("/")) -> int:
    """Return the bytes that this process can still allocate without swapping, failing or being killed.

    Args:
        limit: bytes that the process may use in all, as the user set them (``--max-memory``); ``None`` sets no limit.
        root: folder that contains the kernel's ``proc`` and ``sys``.

    Returns:
        The least of the available memory of the machine; of what is left of the limits of its control groups (of a
        container, a service or a batch job) and of its resource limits (``ulimit -v`` and ``ulimit -d``); and of
        ``limit``. Never less than 0.
    """
    import psutil

    own = psutil.Process().memory_info()
    rooms = [psutil.virtual_memory().available, *_group_rooms(root), *_resource_rooms(own)]
    if limit is not None:
        rooms.append(limit - own.rss)
    room: int = max(0, min(rooms))
    return room


def require(needed: int, what: str, advice: str, limit: int | None = None) -> None:
    """Check that there is enough memory before it is used, because the kernel would kill the process otherwise.

    Args:
        needed: bytes, estimated.
        what: what needs them, as the subject of the message.
        advice: what the user can do about it, as the end of the message.
        limit: as in :func:`available_memory`.

    Raises:
        NoMemoryError: If less memory is available. The message gives both numbers.
    """
    room = available_memory(limit)
    if needed > room:
        raise NoMemoryError(f"{what} takes about {size(needed)} of memory, and {size(room)} are available; {advice}")


def import_torch(limit: int | None = None) -> None:
    """Import torch, if it is not yet, after checking that there is memory for it, and bound what it caches.

    oneDNN, which runs torch's convolutions, keeps code for each size of image: for up to 1024 layers, which is hundreds
    of megabytes after some hundred sizes. The bound is set in the environment, where it reads it at the first
    convolution, and holds for the process unless the user has set another one.

    Args:
        limit: as in :func:`available_memory`.

    Raises:
        NoMemoryError: If there is not, or the address space of this process is too small for its libraries.
    """
    for name in ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY"):
        os.environ.setdefault(name, _CACHED_LAYERS)
    if "torch" in sys.modules:
        return
    advice = "free some memory" if limit is None else "use a larger --max-memory"
    require(_TORCH_BYTES, "loading torch", advice, limit)
    why = "the limit of its address space (ulimit -v) is too low; raise it to 3 GB or more"
    if _addresses_left() < _TORCH_ADDRESSES:
        raise NoMemoryError(f"torch cannot be loaded in this process: {why}")
    try:
        import torch  # noqa: F401
    except (ImportError, OSError, MemoryError, RuntimeError) as error:
        if isinstance(error, MemoryError) or any(words in str(error) for words in _NO_ADDRESSES):
            raise NoMemoryError(f"torch cannot be loaded in this process: {why}") from error
        raise


def _addresses_left() -> float:
    """Bytes of address space and data that this process may still take; infinite without a limit."""
    import psutil

    return min(_resource_rooms(psutil.Process().memory_info()), default=math.inf)


def size(count: int) -> str:
    """Return a number of bytes in MB or GB, as for a person."""
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"


def release() -> None:
    """Return what is free to the system, before something that needs all of the memory. It takes some milliseconds."""
    gc.collect()
    trim()


def trim() -> None:
    """Return the free memory of the C library to the system, which clears it before it is used again."""
    heap = _heap()
    if heap is not None:
        heap.malloc_trim(0)


class FreedMemory:
    """What to do with the memory that an image has freed: keep it for the next one, or return it to the system.

    glibc keeps what was freed below a block that is in use, and a CPU engine has it keep most of the rest
    (:mod:`gankit.backends.cpu.heap`), so that a process grows with each size of image that it has seen. What the next
    image of the same size takes again is better kept, because the system would clear its pages once more. So memory is
    returned after sizes that are new among the last ones, once there is much of it. With other C libraries, nothing is
    done.

    Args:
        limit: as in :func:`available_memory`.
    """

    def __init__(self, limit: int | None = None) -> None:
        self._limit = limit
        self._shapes: deque[tuple[int, ...]] = deque(maxlen=_KEPT_SHAPES)

    def after(self, shape: tuple[int, ...]) -> None:
        """Keep or return what is free now.

        Args:
            shape: of the array that went into the engine.
        """
        if shape in self._shapes:
            return
        self._shapes.append(shape)
        heap = _heap()
        if heap is not None:
            free = heap.mallinfo2().fordblks
            if free >= _KEPT_BYTES or free * _KEPT_SHARE >= available_memory(self._limit):
                heap.malloc_trim(0)


class _HeapUse(ctypes.Structure):
    """glibc's ``struct mallinfo2``. ``fordblks`` is the bytes in free blocks."""

    _fields_ = tuple(
        (name, ctypes.c_size_t)
        for name in [
            "arena",
            "ordblks",
            "smblks",
            "hblks",
            "hblkhd",
            "usmblks",
            "fsmblks",
            "uordblks",
            "fordblks",
            "keepcost",
        ]
    )


@cache
def _heap() -> Any:
    """Return glibc's functions of the heap; ``None`` where the C library lacks them (2.33 has all)."""
    if not sys.platform.startswith("linux"):
        return None
    try:
        library = ctypes.CDLL(None)
        library.malloc_trim.argtypes, library.malloc_trim.restype = [ctypes.c_size_t], ctypes.c_int
        library.mallinfo2.argtypes, library.mallinfo2.restype = [], _HeapUse
    except (OSError, AttributeError):  # musl
        return None
    return library


def _resource_rooms(own: Any) -> list[int]:
    """Return what is left of the limits of the address space and of the data of this process; empty if unlimited.

    Args:
        own: what psutil reports about the memory of this process.
    """
    if not sys.platform.startswith("linux"):  # others do not enforce them, or count otherwise
        return []
    import resource

    limits = ((resource.RLIMIT_AS, own.vms), (resource.RLIMIT_DATA, own.data))
    found = ((resource.getrlimit(kind)[0], used) for kind, used in limits)
    return [most - used for most, used in found if most != resource.RLIM_INFINITY]


def _group_rooms(root: Path) -> list[int]:
    """Return the bytes left in each limited control group of this process; empty on other systems."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return []
    rooms = []
    for line in lines:
        number, controllers, path = line.split(":", 2)
        if number == "0":  # version 2
            base, names = root / "sys/fs/cgroup", ("memory.max", "memory.current", "")
        elif "memory" in controllers.split(","):
            base, names = root / "sys/fs/cgroup/memory", ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_")
        else:
            continue
        # In a container the path may be the host's, of which only the last folder is visible, as the base.
        own = base / path.lstrip("/")
        for group in (own, *own.parents):
            room = _room(group, *names)
            if room is not None:
                rooms.append(room)
            if group == base:
                break
    return rooms


def _room(group: Path, limit: str, usage: str, prefix: str) -> int | None:
    """Return limit minus usage. Cached files do not count, because the kernel drops them when memory is short."""
    try:
        most, used = int((group / limit).read_text()), int((group / usage).read_text())
        pairs = (line.split() for line in (group / "memory.stat").read_text().splitlines())
        counts = {name: int(count) for name, count in pairs}
    except (OSError, ValueError):  # no such group, or "max"
        return None
    cached = sum(counts.get(f"{prefix}{name}_file", 0) for name in ("active", "inactive"))
    return most - max(0, used - cached)
