"""Benchmarks run with ``--benchmark-only`` and not otherwise; one table closes them.

Without ``--full`` a subset runs that ends within minutes: each backend in its fastest precision on a few inputs. A file
named on the command line runs whole. The options are in the conftest.py above, where pytest always finds them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from bench.candidates import Subject
from bench.common import ROOT, Row, machine_facts, versions
from bench.comparison import Setting
from bench.table import render

ROWS = pytest.StashKey[list[Row]]()
FULL_ONLY = ("test_kernels.py", "test_launches.py")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Not even imported without --benchmark-only."""
    return None if config.getoption("benchmark_only", False) else True


def _named(config: pytest.Config, path: Path) -> bool:
    """Whether the command line names this file."""
    places = (Path(config.invocation_params.dir, str(word).partition("::")[0]) for word in config.args)
    return any(place.is_file() and place.resolve() == path.resolve() for place in places)


def _whole(config: pytest.Config, path: Path) -> bool:
    return bool(config.getoption("full")) or _named(config, path)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what is not in the subset."""
    if not config.getoption("benchmark_only", False):
        return
    kept: list[pytest.Item] = []
    left_out: list[pytest.Item] = []
    for item in items:
        mine = ROOT / "bench" in item.path.parents
        extra = item.get_closest_marker("full") is not None or item.path.name in FULL_ONLY
        (kept if mine and (not extra or _whole(config, item.path)) else left_out).append(item)
    config.hook.pytest_deselected(items=left_out)
    items[:] = kept


@pytest.fixture
def rows(request: pytest.FixtureRequest, benchmark: Any) -> Iterator[list[Row]]:
    """Where a benchmark puts its lines of the closing table; they are in the JSON, too."""
    every = request.config.stash.setdefault(ROWS, [])
    before = len(every)
    yield every
    benchmark.extra_info["rows"] = [asdict(row) for row in every[before:]]


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Exported files and choices of this run alone: what an earlier one has cached changes no figure."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GANKIT_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture
def whole(request: pytest.FixtureRequest) -> bool:
    """Whether every backend and precision takes part."""
    return _whole(request.config, request.path)


@pytest.fixture
def setting(request: pytest.FixtureRequest, whole: bool) -> Setting:
    """How long a comparison may take; ``rounds`` is 0 where the benchmark chooses."""
    option = request.config.getoption
    patience = option("patience") or (60.0 if option("full") else 10.0)
    return Setting(option("rounds") or 0, patience, option("budget") or (600.0 if option("full") else 75.0))


@pytest.fixture(scope="session")
def subjects(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Subject]:
    """The generators that were opened in this session."""
    return {}


@pytest.fixture
def model(request: pytest.FixtureRequest, subjects: dict, tmp_path_factory: pytest.TempPathFactory) -> Subject:
    """The generator of ``--model``, or of the test's parameter. Untrained weights where none are installed."""
    name = getattr(request, "param", None) or request.config.getoption("model") or "srgan"
    if name not in subjects:
        subjects[name] = _open(name, tmp_path_factory.mktemp("weights"))
    return subjects[name]


def _open(name: str, folder: Path) -> Subject:
    import torch

    from gankit import checkpoints, models
    from gankit.errors import CheckpointError

    try:
        return Subject(checkpoints.open_model(name), name, folder)
    except CheckpointError:
        if name not in models.MODELS:
            raise
    torch.manual_seed(0)  # the weights cost the same time, whatever they are
    path = folder / f"{name}.safetensors"
    checkpoints.save(path, models.build(name).state_dict(), name, models.facts(name).options)
    return Subject(checkpoints.open_model(str(path)), str(path), folder)


def _machine() -> str:
    import torch

    facts = machine_facts()
    gpu = f", {facts['gpu']}" if facts["gpu"] else ""
    words = f"{facts['cpu']}, {facts['cores']} cores, {', '.join(facts['features'])}, {facts['memory_gib']} GiB{gpu}"
    return f"{words}; torch {torch.__version__}"


@pytest.hookimpl(optionalhook=True)
def pytest_benchmark_update_machine_info(config: pytest.Config, machine_info: dict[str, object]) -> None:
    """The machine, in the JSON."""
    model = Path(config.getoption("model") or "srgan").stem
    machine_info["gankit"] = {"machine": machine_facts(), "versions": versions(), "model": model}


@pytest.hookimpl(trylast=True)
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """One table of everything that ran."""
    rows = config.stash.get(ROWS, [])
    if rows:
        terminalreporter.write_sep("=", "gankit")
        terminalreporter.write(render(rows, _machine(), terminalreporter._tw.fullwidth))
