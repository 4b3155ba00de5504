"""The options of the benchmarks, and how many processes share the tests; benchmarks have the machine to themselves."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

_MOST = 4  # each takes a gigabyte and more

# Processes that share the tests share the cores, too: each with a thread for every core would wait for the others.
if workers := os.environ.get("PYTEST_XDIST_WORKER_COUNT"):
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // int(workers))))


def pytest_addoption(parser: pytest.Parser) -> None:
    """The options of the benchmarks (bench/conftest.py); here, so that ``pytest`` knows them from any command line."""
    group = parser.getgroup("gankit", "benchmarks of gankit, with --benchmark-only")
    group.addoption("--full", action="store_true", help="every benchmark, backend and precision (hours on two cores)")
    group.addoption("--images", type=int, help="images of the folder benchmark (default 1, with --full 4; at most 24)")
    group.addoption(
        "--rounds", type=int, help="timed runs of each candidate (default 3; 5 on tiles with --full or a named file)"
    )
    group.addoption("--model", help="model's name or weights file (default srgan, and cyclegan on a tile)")
    group.addoption("--candidates", default="", help="only these, by parts of their names: 'openvino,eager bf16'")
    group.addoption(
        "--patience", type=float, help="a candidate slower than these seconds runs once (default 10, with --full 60)"
    )
    group.addoption(
        "--budget", type=float, help="seconds for the rounds of one comparison (default 75, with --full 600)"
    )


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Declare the marker; pytest-benchmark's own tables give way to ours unless --benchmark-verbose asks for them."""
    config.addinivalue_line("markers", "full: a benchmark that runs with --full, or where its file is named")
    if config.getoption("benchmark_only", False):
        config.option.benchmark_quiet = True


@pytest.hookimpl(optionalhook=True)  # also where pytest-xdist is not installed
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """One for each core, up to four; none beside a benchmark or where a single test is named."""
    alone = config.getoption("benchmark_only", False) or any("::" in word for word in config.args)
    return 0 if alone else min(_MOST, os.cpu_count() or 1)


_FIRST = ("tests/kernels/", "tests/export/", "tests/bench/", "tests/test_contributing", "tests/rewrites/")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with few long tests come first, so that no process is left alone with one of them at the end."""
    items.sort(key=lambda item: not item.nodeid.startswith(_FIRST))


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """With --benchmark-only the tests are not even imported."""
    tests = Path(__file__).parent / "tests"
    return True if config.getoption("benchmark_only", False) and collection_path.is_relative_to(tests) else None
