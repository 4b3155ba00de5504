"""How many CPU threads an engine uses. Imports torch only to limit its threads."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from math import ceil
from pathlib import Path

import psutil

_SYS = Path("/sys")
_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")


def physical_cores() -> int:
    """Physical cores that this process may use, at least 1.

    Counts its CPU affinity and what a container's quota allows; hyper-threads share a matrix unit and gain nothing.
    """
    if not hasattr(psutil.Process, "cpu_affinity"):
        return psutil.cpu_count(logical=False) or psutil.cpu_count() or 1
    return usable_cores(psutil.Process().cpu_affinity(), _SYS)


def default_threads() -> int:
    """Return the threads of an engine: the physical cores, and no more than ``OMP_NUM_THREADS`` allows.

    torch follows the same variables, and a program may set another number, which holds for all engines.
    """
    return min(physical_cores(), _threads_of_torch())


def _threads_of_torch() -> int:
    """Return the threads of torch, or those that it would use if it were imported: at least the physical cores."""
    if "torch" in sys.modules:
        import torch

        return torch.get_num_threads()
    found = (re.match(r"\s*\+?([0-9]+)", os.environ.get(name, "")) for name in _VARIABLES)
    limits = [int(match[1]) for match in found if match and int(match[1])]  # "4,2" has a number for each level
    return min(limits, default=physical_cores())


def usable_cores(allowed: Sequence[int], system: Path) -> int:
    """Cores behind some logical processors, or fewer where a quota of the control group does not feed them all.

    Args:
        allowed: logical processors by number.
        system: the folder ``/sys``. A processor whose core it does not tell counts as one.
    """
    cores = {_core(system, number) for number in allowed}
    quota = _quota(system / "fs" / "cgroup")
    return max(1, len(cores) if quota is None else min(len(cores), ceil(quota)))


def _core(system: Path, number: int) -> tuple[str, ...]:
    """Package and core; the same for hyper-threads of one core."""
    topology = system / "devices" / "system" / "cpu" / f"cpu{number}" / "topology"
    try:
        return tuple((topology / name).read_text() for name in ("physical_package_id", "core_id"))
    except OSError:
        return (f"processor {number}",)


def _quota(cgroup: Path) -> float | None:
    """Processors' time per time that the control group may use, version 2 or 1; ``None`` without a limit."""
    try:
        if (cgroup / "cpu.max").exists():
            granted, period = (cgroup / "cpu.max").read_text().split()
        else:
            granted, period = ((cgroup / "cpu" / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
        share = int(granted) / int(period)  # "max", or -1 in version 1, where there is no limit
    except (OSError, ValueError, ZeroDivisionError):
        return None
    return share if share > 0 else None


@contextmanager
def limited_threads(threads: int | None) -> Iterator[None]:
    """Run torch with this many threads inside, and as before outside; ``None`` changes nothing."""
    import torch

    if threads is None or threads == torch.get_num_threads():
        yield
        return
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)
