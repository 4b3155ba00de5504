"""``gankit models``: the registry, and one model in full."""

from __future__ import annotations

import click
from rich.console import Console
from rich.table import Table

from gankit import models as registry
from gankit.errors import CheckpointError


@click.command()
@click.argument("name", required=False)
def models(name: str | None) -> None:
    """List the models, or show NAME with its facts and the card of its weights."""
    console = Console()
    if name is None:
        table = Table("model", "what it does", "weights", box=None, pad_edge=False)
        for known, line in sorted(registry.MODELS.items()):
            table.add_row(known, line.summary, _weights(known))
        console.print(table)
        return
    line = registry.entry(name)
    from gankit.checkpoints import card
    from gankit.models.receptive_field import halo

    generator = registry.build(name).eval()
    facts = registry.facts(name)
    rows: dict[str, object] = {
        "model": f"{name}: {line.summary}",
        "paper": facts.paper,
        "task": facts.task,
        "scale": f"×{facts.scale}",
        "channels": facts.channels,
        "normalisation": facts.norm,
        "parameters": f"{sum(parameter.numel() for parameter in generator.parameters()):,}",
        "halo": f"{halo(generator)} input pixels",
    }
    try:
        rows |= {f"weights: {key}": value for key, value in card(name).items()}
    except CheckpointError as error:
        rows["weights"] = str(error)
    table = Table("", "", show_header=False, box=None, pad_edge=False)
    for key, value in rows.items():
        table.add_row(key, _words(value))
    console.print(table, markup=False, highlight=False)


def _weights(name: str) -> str:
    """Whether weights ship; asked of the file system, since the checkpoints import torch."""
    from importlib.resources import files

    return "installed" if (files("gankit.weights") / f"{name}.safetensors").is_file() else "not installed"


def _words(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_words(item)}" for key, item in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(_words(item) for item in value)
    return f"{value:.4g}" if isinstance(value, float) else str(value)
