"""Benchmarks run with ``--benchmark-only`` and not otherwise; one table closes them."""

from __future__ import annotations

from pathlib import Path

import pytest
from rich.console import Console
from rich.table import Table

from bench.common import EAGER, GATE_DB, OPENVINO, ROOT, Row, ratio

ROWS = pytest.StashKey[list[Row]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("gankit")
    group.addoption("--images", type=int, default=4, help="images of the folder benchmark (24 for all of kodak24)")
    group.addoption("--rounds", type=int, default=5, help="rounds of each tile benchmark")
    group.addoption("--model", default="srgan", help="model's name or weights file")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Not even imported without --benchmark-only."""
    return None if config.getoption("benchmark_only") else True


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """With --benchmark-only the tests are left out, not reported as skipped one by one."""
    if config.getoption("benchmark_only"):
        folder = ROOT / "bench"
        left_out = [item for item in items if folder not in item.path.parents]
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if folder in item.path.parents]


@pytest.fixture
def rows(request: pytest.FixtureRequest) -> list[Row]:
    """Where a benchmark puts its line of the closing table."""
    return request.config.stash.setdefault(ROWS, [])


@pytest.fixture(scope="session")
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The model's name or file. Where no weights are installed: fresh ones, which cost the same time."""
    import torch

    from gankit import checkpoints, models
    from gankit.errors import CheckpointError

    name: str = request.config.getoption("--model")
    try:
        checkpoints.open_model(name)
    except CheckpointError:
        if name not in models.MODELS:
            raise
        torch.manual_seed(0)
        path = tmp_path_factory.mktemp("weights") / f"{name}_untrained.safetensors"
        checkpoints.save(path, models.build(name).state_dict(), name, models.facts(name).options)
        return str(path)
    return name


def _machine() -> str:
    import torch

    from gankit.backends.choice.machine import machine

    facts = machine()
    units = ", ".join(facts.features)
    gpu = f", {facts.gpu}" if facts.gpu else ""
    return f"{facts.cpu}, {facts.cores} cores, {units}, {facts.memory_gib} GiB{gpu}; torch {torch.__version__}"


def pytest_report_header(config: pytest.Config) -> str | None:
    """The machine, above the benchmarks."""
    return f"machine: {_machine()}" if config.getoption("benchmark_only") else None


def pytest_benchmark_update_machine_info(config: pytest.Config, machine_info: dict[str, object]) -> None:
    """The machine, in the JSON."""
    from dataclasses import asdict

    from gankit.backends.choice.environment import installed
    from gankit.backends.choice.machine import machine

    model = Path(config.getoption("--model")).stem
    machine_info["gankit"] = {"machine": asdict(machine()), "versions": installed(), "model": model}


@pytest.hookimpl(trylast=True)
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """One table of everything that ran."""
    rows = config.stash.get(ROWS, [])
    if not rows:
        return
    table = Table(title=_machine(), title_justify="left")
    table.add_column("what")
    for column in ("ms", "MP/s in", "parity dB", "× eager", "× OpenVINO"):
        table.add_column(column, justify="right")
    table.add_column("remark")
    for suite in dict.fromkeys(row.suite for row in rows):
        table.add_section()
        table.add_row(f"[bold]{suite}[/]")
        for row in (row for row in rows if row.suite == suite):
            parity = "" if row.parity_db is None else f"{row.parity_db:.1f}"
            out = row.parity_db is not None and row.parity_db < GATE_DB
            ratios = [_times(ratio(row, rows, base)) for base in (EAGER, OPENVINO)]
            speed = f"{row.speed:.3f}" if row.megapixels else ""
            remark = f"below {GATE_DB:.0f} dB: out" if out else row.remark
            table.add_row(f"  {row.label}", f"{row.milliseconds:.1f}", speed, parity, *ratios, remark)
    console = Console(width=max(140, terminalreporter._tw.fullwidth), force_terminal=False)
    with console.capture() as captured:
        console.print(table)
    terminalreporter.write_sep("=", "gankit")
    terminalreporter.write(captured.get())


def _times(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"
