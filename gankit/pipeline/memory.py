"""Measure the available memory, also in a container. Imports no torch."""

from __future__ import annotations

from pathlib import Path


def available_memory(root: Path = Path("/")) -> int:
    """Return the bytes that this process can still allocate without swapping or being killed.

    Args:
        root: folder that contains the kernel's ``proc`` and ``sys``.

    Returns:
        The available memory of the machine, or what is left of the limits of its control groups (of a container, a
        service or a batch job), whichever is less. Never less than 0.
    """
    import psutil

    result: int = max(0, min([psutil.virtual_memory().available, *_group_rooms(root)]))
    return result


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
