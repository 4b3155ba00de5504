"""What needs no Ray: the address, the workers for a cluster, and the line if Ray is missing."""

import pytest

from gankit import cli
from gankit.cluster.ray_data import Pool, check_address, divided, pool_of
from gankit.errors import UsageError


def node(alive=True, **resources):
    return {"Alive": alive, "Resources": resources}


@pytest.mark.parametrize(
    ("nodes", "threads", "device", "pool"),
    [
        ([node(CPU=2)], None, "auto", Pool(1, 2, 0)),
        ([node(CPU=2)], 1, "auto", Pool(2, 1, 0)),
        ([node(CPU=32)], None, "auto", Pool(4, 8, 0)),
        ([node(CPU=8), node(CPU=16)], None, "auto", Pool(3, 8, 0)),
        ([node(CPU=8), node(CPU=8, alive=False)], 4, "auto", Pool(2, 4, 0)),
        ([node(CPU=8, GPU=2), node(CPU=8)], None, "auto", Pool(2, 1, 1)),
        ([node(CPU=8, GPU=2)], None, "cpu", Pool(1, 8, 0)),
    ],
)
def test_workers(nodes, threads, device, pool):
    assert pool_of(nodes, threads, device) == pool


def test_too_many_threads():
    with pytest.raises(UsageError, match="use a smaller --threads"):
        pool_of([node(CPU=4), node(CPU=4)], 5)


@pytest.mark.parametrize(("count", "workers"), [(0, 2), (1, 2), (7, 2), (60, 2), (1000, 2), (1000, 16)])
def test_blocks_hold_each_task_once_and_get_smaller(count, workers):
    blocks = divided(range(count), workers, lambda task: 1 / 64)
    assert [task for block in blocks for task in block] == [*range(count)]
    sizes = [len(block) for block in blocks]
    assert sizes == sorted(sizes, reverse=True)
    assert max(sizes, default=0) <= max(1, min(64, count // (4 * workers)))
    assert set(sizes[-workers:]) <= {1}, "the workers end at the same time"


def test_large_tasks_are_few_in_a_block():
    tasks = [2.0, 0.125, 0.5, 0.375, 0.125, 0.5, *[0.125] * 100]
    blocks = divided(tasks, 1, lambda task: task)
    assert blocks[:3] == [[2.0], [0.125, 0.5, 0.375], [0.125, 0.5, 0.125, 0.125, 0.125]]
    assert all(sum(block) <= 1 for block in blocks[1:])


@pytest.mark.parametrize("address", ["auto", "local", "10.0.0.1:6379", "ray://head.example.com:10001", "[::1]:6379"])
def test_addresses(address):
    check_address(address)


def test_a_path_is_no_address(capsys):
    assert cli.main(["upscale", "--cluster", "photos/", "more/"]) == 2
    assert "'photos/' is no address of a cluster" in capsys.readouterr().err


def test_ray_is_missing(monkeypatch, capsys):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert cli.main(["upscale", "photos/", "--cluster"]) == 2
    assert capsys.readouterr().err == "error: --cluster needs Ray; run: pip install 'gankit[ray]'\n"
