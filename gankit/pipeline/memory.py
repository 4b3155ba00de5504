"""How much memory there is, in a container too. Imports no torch."""

from __future__ import annotations

from pathlib import Path


def available_memory(root: Path = Path("/")) -> int:
    """Bytes that this process can still take without swapping, or being killed for them.

    Args:
        root: where the kernel's ``proc`` and ``sys`` are.

    Returns:
        The machine's available memory, or what its control groups (of a container, a service, a batch job) leave of
        their limits if that is less; never below 0.
    """
    import psutil

    result: int = max(0, min([psutil.virtual_memory().available, *_group_rooms(root)]))
    return result


def _group_rooms(root: Path) -> list[int]:
    """What each limited control group above this process has left; empty on other systems."""
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
        # In a container the path may be the host's, of which nothing but its last folder is seen, as the base.
        own = base / path.lstrip("/")
        for group in (own, *own.parents):
            room = _room(group, *names)
            if room is not None:
                rooms.append(room)
            if group == base:
                break
    return rooms


def _room(group: Path, limit: str, usage: str, prefix: str) -> int | None:
    """Limit less usage; cached files do not count, for the kernel drops them when memory is short."""
    try:
        most, used = int((group / limit).read_text()), int((group / usage).read_text())
        pairs = (line.split() for line in (group / "memory.stat").read_text().splitlines())
        counts = {name: int(count) for name, count in pairs}
    except (OSError, ValueError):  # no such group, or "max"
        return None
    cached = sum(counts.get(f"{prefix}{name}_file", 0) for name in ("active", "inactive"))
    return most - max(0, used - cached)
