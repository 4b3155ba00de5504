"""``gankit doctor``: describe the machine, the installed packages, and the backends with why some cannot run."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from gankit.backends.choice.diagnosis import Diagnosis
    from gankit.backends.choice.gpus import Gpu


@click.command()
@click.option(
    "--forget",
    is_flag=True,
    help="Delete the cached choices of --backend auto and exit. The next run measures the backends again.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the same facts, and more of them, as JSON.")
def doctor(forget: bool, as_json: bool) -> int:
    """Show what this machine can run.

    The page lists the machine, the installed packages and the backends. For a backend that cannot run here, it gives
    the reason and what to install. What else is wrong follows, each with the line that mends it.

    Example: gankit doctor --json > machine.json

    Exit status: 0 if at least one backend can run, 1 if none can.
    """
    if forget:
        from gankit.backends.choice.cache import clear

        count = clear()
        click.echo(f"{count} cached choice{'' if count == 1 else 's'} removed; the next run measures again")
        return 0
    from gankit.backends.choice.diagnosis import diagnosis
    from gankit.backends.choice.environment import environment

    found, more = environment(), diagnosis()
    usable = any(usable for usable, *_ in found.backends.values())
    if as_json:
        backends = {name: state._asdict() for name, state in found.backends.items()}
        facts = {"system": found.system, "packages": found.packages, "backends": backends, **more.to_json()}
        click.echo(json.dumps(facts, indent=2, default=list))
        return 0 if usable else 1
    console = Console(highlight=False)
    console.print(_pairs("This machine", found.system))
    console.print()
    console.print(_pairs("Packages", {name: version or "not installed" for name, version in found.packages.items()}))
    console.print()
    console.print(_backends(found.backends))
    console.print()
    console.print(_pairs("Tools", _tools(more)))
    for problem in more.problems:
        console.print()
        console.print(Text(problem.what, style="yellow"))
        console.print(Text(f"  {problem.fix}"), soft_wrap=True)
    return 0 if usable else 1


def _tools(found: Diagnosis) -> dict[str, str]:
    """Return what is neither a package nor a backend, as text."""
    rows = {gpu.device: _gpu(gpu) for gpu in found.gpus}
    if found.driver is not None:
        versions = {"driver": found.driver, "CUDA": found.torch["cuda"], "cuDNN": found.torch["cudnn"]}
        rows["CUDA"] = ", ".join(f"{name} {version or 'unknown'}" for name, version in versions.items())
    rows["ONNX Runtime's providers"] = ", ".join(name for name, why in found.providers.items() if not why) or "none"
    rows["C++ compiler"] = found.compilers["c++"] or "none"
    rows["cache"] = f"{found.cache}: {found.cache_bytes / 1e6:.1f} MB, {found.free_bytes / 1e9:.1f} GB free on its disk"
    return rows


def _gpu(gpu: Gpu) -> str:
    """Return the facts of a GPU as text."""
    if gpu.fault:
        return f"{gpu.name}, which CUDA cannot use: {gpu.fault}"
    memory = f"{gpu.memory / 1e9:.1f} GB, of which {gpu.free / 1e9:.1f} GB are free"
    kernels = "do not run with this torch" if not gpu.built else "do not compile" if gpu.kernels else "compile"
    return f"{gpu.name}, {memory}, compute capability {gpu.capability}, gankit's kernels {kernels}"


def _backends(backends: Mapping[str, tuple[bool, str, tuple[str, ...]]]) -> Table:
    table = Table(
        "backend", "usable", "precisions", "remarks", box=None, pad_edge=False, title="Backends", title_justify="left"
    )
    for name, (usable, why, precisions) in backends.items():
        state = Text("yes", style="green") if usable else Text("no", style="red")
        table.add_row(name, state, Text(", ".join(precisions)), Text(why))
    return table


def _pairs(title: str, rows: Mapping[str, str]) -> Table:
    table = Table("", "", show_header=False, box=None, pad_edge=False, title=title, title_justify="left")
    for name, value in rows.items():
        table.add_row(name, Text(value))
    return table
