"""How many cores there are for an engine, recognised from a folder that looks like /sys."""

import psutil
import pytest
import torch

from gankit.backends.cpu.threads import default_threads, physical_cores, usable_cores


@pytest.fixture
def system(tmp_path):
    """Two packages of two cores with two threads each, numbered as Linux does: first all first threads."""
    for number in range(8):
        topology = tmp_path / f"devices/system/cpu/cpu{number}/topology"
        topology.mkdir(parents=True)
        (topology / "physical_package_id").write_text(f"{number % 4 // 2}\n")
        (topology / "core_id").write_text(f"{number % 2}\n")  # the same numbers in both packages
    (tmp_path / "fs/cgroup").mkdir(parents=True)
    return tmp_path


@pytest.mark.parametrize(
    ("allowed", "cores"), [(range(8), 4), ([0, 4], 1), ([0, 1], 2), ([0, 2], 2), ([5], 1), ([0, 90, 91], 3)]
)
def test_hyper_threads_count_once(system, allowed, cores):
    assert usable_cores(list(allowed), system) == cores


@pytest.mark.parametrize(
    ("text", "cores"),
    [("max 100000\n", 4), ("200000 100000\n", 2), ("150000 100000\n", 2), ("5000 100000\n", 1), ("900000 100000\n", 4),
     ("", 4), ("?", 4), ("1 0", 4)],
)  # fmt: skip
def test_the_quota_of_a_container(system, text, cores):
    (system / "fs/cgroup/cpu.max").write_text(text)
    assert usable_cores(range(8), system) == cores


@pytest.mark.parametrize(("quota", "cores"), [("-1", 4), ("100000", 1), ("250000", 3)])
def test_the_quota_of_an_older_container(system, quota, cores):
    (system / "fs/cgroup/cpu").mkdir()
    (system / "fs/cgroup/cpu/cpu.cfs_quota_us").write_text(f"{quota}\n")
    (system / "fs/cgroup/cpu/cpu.cfs_period_us").write_text("100000\n")
    assert usable_cores(range(8), system) == cores


def test_a_system_that_tells_nothing(tmp_path):
    assert usable_cores([0, 1, 2], tmp_path) == 3


def test_this_machine():
    assert 1 <= default_threads() <= physical_cores() <= psutil.cpu_count()
    assert default_threads() <= torch.get_num_threads()
