"""How many processes share the tests; benchmarks have the machine for themselves."""

from __future__ import annotations

import os

import pytest

_MOST = 4  # each takes a gigabyte and more


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """One for each core, up to four; none beside a benchmark or where one test is looked for."""
    alone = config.getoption("benchmark_only", False) or any("::" in word for word in config.args)
    return 0 if alone else min(_MOST, os.cpu_count() or 1)
