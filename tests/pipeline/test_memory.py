"""Memory that is left, on the machine and in its control groups."""

import psutil
import pytest

from gankit.pipeline.memory import available_memory

GIB = 1 << 30


@pytest.fixture(autouse=True)
def large_machine(monkeypatch):
    class Free:
        available = 64 * GIB

    monkeypatch.setattr(psutil, "virtual_memory", lambda: Free)


def write(root, files):
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(str(text))


def group(path, most, used, cached=0, version=2):
    names = ("memory.max", "memory.current") if version == 2 else ("memory.limit_in_bytes", "memory.usage_in_bytes")
    prefix = "" if version == 2 else "total_"
    stat = f"anon 1\n{prefix}active_file {cached // 4}\n{prefix}inactive_file {cached - cached // 4}\n"
    return {f"{path}/{names[0]}": most, f"{path}/{names[1]}": used, f"{path}/memory.stat": stat}


def test_without_groups(tmp_path):
    assert available_memory(tmp_path) == 64 * GIB
    write(tmp_path, {"proc/self/cgroup": "0::/\n"})
    assert available_memory(tmp_path) == 64 * GIB


def test_version_2(tmp_path):
    """The least of the group's own and its parents' limits; cached files are not in the way."""
    base = "sys/fs/cgroup"
    write(tmp_path, {"proc/self/cgroup": "0::/work/job\n"} | group(f"{base}/work/job", "max", 5 * GIB))
    assert available_memory(tmp_path) == 64 * GIB
    write(tmp_path, group(f"{base}/work", 8 * GIB, 7 * GIB, cached=4 * GIB))
    assert available_memory(tmp_path) == 5 * GIB
    write(tmp_path, group(f"{base}/work/job", 6 * GIB, 5 * GIB))
    assert available_memory(tmp_path) == GIB
    write(tmp_path, group(f"{base}/work/job", 6 * GIB, 7 * GIB))
    assert available_memory(tmp_path) == 0


def test_version_1_in_a_container(tmp_path):
    """The path is the host's; the container sees its own group as the root."""
    write(tmp_path, {"proc/self/cgroup": "5:devices:/docker/1f\n4:cpu,memory:/docker/1f\n0::/\n"})
    write(tmp_path, group("sys/fs/cgroup/memory", 4 * GIB, 3 * GIB, GIB, version=1))
    assert available_memory(tmp_path) == 2 * GIB


def test_this_machine():
    assert 0 < available_memory() <= 64 * GIB
