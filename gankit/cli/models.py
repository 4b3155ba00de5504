"""``gankit models``: the registry, and one model in full."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from importlib.resources import files
from typing import Any

import click
from rich.console import Console
from rich.table import Column, Table

from gankit import models as registry
from gankit.errors import UsageError
from gankit.pipeline.paths import exists
from gankit.weights import TRAINED

_SIDE = 256


@click.command()
@click.argument("name", required=False)
def models(name: str | None) -> None:
    """List the weights that ship and the models, or show NAME with its facts and its card.

    A name may be both: then the weights come first, and after them the model as its paper has it.
    """
    console = Console()
    if name is None:
        trained = Table("weights", "what they do", "", box=None, pad_edge=False)
        for known, weights in TRAINED.items():
            trained.add_row(known, weights.summary, _installed(known))
        console.print(trained, "", sep="\n")
        table = Table("model", "what it does", box=None, pad_edge=False)
        for known, line in sorted(registry.MODELS.items()):
            table.add_row(known, line.summary)
        console.print(table)
        return
    if not registry.is_known(name) and exists(name):
        raise UsageError(f"{name}: a file is no name of a model: gankit convert tells what is in it")
    if not registry.is_known(name):
        raise registry.unknown(name)
    shown = [_weights(name)] if name in TRAINED else []
    if name in registry.MODELS:
        shown.append(_model(name))
    for rows in shown:
        if rows is not shown[0]:
            console.print()
        table = Table("", Column(overflow="fold"), show_header=False, box=None, pad_edge=False)
        for key, value in rows.items():
            table.add_row(key, _words(value))
        console.print(table, markup=False, highlight=False)


def _weights(name: str) -> dict[str, object]:
    """Weights that ship: the facts of their model as they have it, and their card."""
    from gankit.checkpoints import card

    found = card(name)
    architecture, options = found.pop("model"), found.pop("options")
    return {
        "weights": f"{name}: {TRAINED[name].summary}",
        "model": architecture,
        "options": " ".join(f"{key}={json.dumps(value)}" for key, value in options.items()),
        **_facts(architecture, options),
        **{f"card: {key}": value for key, value in found.items() if value is not None},
    }


def _model(name: str) -> dict[str, object]:
    """A model as its paper has it, and which weights of it ship."""
    from gankit.checkpoints import card
    from gankit.errors import CheckpointError

    ship = []
    for known in TRAINED:
        with suppress(CheckpointError):  # one that is not installed says nothing of the others
            ship += [known] if card(known)["model"] == name else []
    return {
        "model": f"{name}: {registry.entry(name).summary}",
        **_facts(name),
        "weights": f"{', '.join(ship)}: shown by these names" if ship else "none ship: give a file of your own",
    }


def _facts(name: str, options: Mapping[str, Any] | None = None) -> dict[str, object]:
    """What is known of a model with these options, or as its paper has it."""
    from gankit.models.cost import cost
    from gankit.models.receptive_field import halo

    generator = registry.build(name, options).eval()
    facts = registry.facts(name, options)
    low, high = facts.value_range
    rows: dict[str, object] = {"paper": facts.paper, "task": facts.task}
    if facts.task == "generate":
        count = cost(generator, (facts.latent,), conditional=facts.classes > 0)
        height, width = facts.output_size or (0, 0)
        rows |= {
            "latent": f"{facts.latent} numbers" + (f", one of {facts.classes} classes" if facts.classes else ""),
            "image": f"{width}×{height}, {facts.out_channels or facts.channels} channels",
            "multiply-accumulates": f"{count.macs / 1e9:.3g} G an image",
        }
    else:
        side = max(_SIDE, facts.multiple)
        count = cost(generator, side, channels=facts.channels)
        try:
            field = f"{halo(generator)} input pixels on each side"
        except ValueError:
            field = "the whole image"
        rows |= {
            "scale": f"×{facts.scale}",
            "channels": f"{facts.channels} -> {facts.out_channels or facts.channels}",
            "sizes": f"any; inside it works on multiples of {facts.multiple}" if facts.multiple > 1 else "any",
            "multiply-accumulates": f"{count.macs / 1e9:.3g} G for {side}×{side} input "
            "(transposed convolutions by their input)",
            "receptive field": field,
        }
    return {
        **rows,
        "value range": f"{low:g} to {high:g}",
        "normalisation": facts.norm,
        "parameters": f"{count.parameters:,}",
    }


def _installed(name: str) -> str:
    """Empty where they are; asked of the file system, since the checkpoints import torch."""
    file = files("gankit.weights") / f"{TRAINED[name].file or name}.safetensors"
    return "" if file.is_file() else "not installed"


def _words(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_words(item)}" for key, item in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(_words(item) for item in value)
    return f"{value:.4g}" if isinstance(value, float) else str(value)
