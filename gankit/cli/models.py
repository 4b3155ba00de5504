"""``gankit models``: list the models and trained weights, or describe one of them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.table import Column, Table

from gankit import models as registry
from gankit.errors import UsageError
from gankit.pipeline.paths import exists
from gankit.weights import TRAINED

if TYPE_CHECKING:
    from torch import nn

_SIDE = 256  # side in pixels of the square image for which the cost is reported


@click.command()
@click.argument("name", required=False)
def models(name: str | None) -> None:
    """List the models and the trained weights that ship with gankit, or describe NAME.

    NAME is a model or trained weights. If it is both, the weights come first, followed by the model with the values of
    its paper. The options of a model can be set with --model-option.
    """
    console = Console()
    if name is None:
        _list(console)
        return
    if not registry.is_known(name) and exists(name):
        raise UsageError(f"{name}: this is a file, not the name of a model; `gankit convert` shows what it contains")
    if not registry.is_known(name):
        raise registry.unknown(name)
    shown = [_rows(_weights(name))] if name in TRAINED else []
    if name in registry.MODELS:
        shown += [_rows(_model(name)), _options(name)]
    for table in shown:
        if table is not shown[0]:
            console.print()
        console.print(table, markup=False, highlight=False)


def _list(console: Console) -> None:
    """Print all weights and all models, one line each."""
    trained = Table("weights", "what they do", "", box=None, pad_edge=False)
    for known, weights in TRAINED.items():
        trained.add_row(known, weights.summary, _installed(known))
    console.print(trained, "", sep="\n")
    table = Table("model", "what it does", box=None, pad_edge=False)
    for known, line in sorted(registry.MODELS.items()):
        table.add_row(known, line.summary)
    console.print(table)


def _rows(rows: Mapping[str, object]) -> Table:
    """Make a table of facts, one in each row."""
    table = Table("", Column(overflow="fold"), show_header=False, box=None, pad_edge=False)
    for key, value in rows.items():
        table.add_row(key, _text(value))
    return table


def _options(name: str) -> Table:
    """Make a table of the options of a model."""
    table = Table("option", "default", Column("allowed", ratio=2), Column("meaning", ratio=3), box=None, pad_edge=False)
    for info in registry.options_of(name).described():
        default = info.default if isinstance(info.default, str) else json.dumps(info.default).replace("null", "none")
        table.add_row(info.name, default, info.allowed, info.text)
    return table


def _weights(name: str) -> dict[str, object]:
    """Describe trained weights: the facts of their model with their options, and their card."""
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
    """Describe a model with the values of its paper, and name the trained weights that ship for it."""
    from gankit.checkpoints import card
    from gankit.errors import CheckpointError

    ship = []
    for known in TRAINED:
        with suppress(CheckpointError):  # skip weights that are not installed
            ship += [known] if card(known)["model"] == name else []
    return {
        "model": f"{name}: {registry.entry(name).summary}",
        **_facts(name),
        "weights": ", ".join(ship) if ship else "none ship with gankit; use a file of your own",
    }


def _facts(name: str, options: Mapping[str, Any] | None = None) -> dict[str, object]:
    """Describe the facts of a model with these options, or with the values of its paper."""
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
            "latent": f"{facts.latent} numbers" + (f", and one of {facts.classes} classes" if facts.classes else ""),
            "image": f"{width}×{height}, {'RGB' if facts.channels == 3 else 'gray'}",
            "multiply-accumulates": f"{count.macs / 1e9:.3g} G per image",
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
            "sizes": f"any; images are padded to multiples of {facts.multiple}" if facts.multiple > 1 else "any",
            "multiply-accumulates": f"{count.macs / 1e9:.3g} G for {side}×{side} input "
            "(transposed convolutions by their input)",
            "receptive field": field,
            "tiles": "yes" if facts.tileable else "no; every image runs whole",
        }
    return {
        **rows,
        "value range": f"{low:g} to {high:g}",
        "normalisation": _norms(generator),
        "parameters": f"{count.parameters:,}",
    }


def _norms(generator: nn.Module) -> str:
    """Name the kinds of normalisation layers in a generator."""
    names = (type(module).__name__ for module in generator.modules())
    return ", ".join(sorted({name for name in names if "Norm" in name and not name.startswith("Conv")})) or "none"


def _installed(name: str) -> str:
    """Return an empty text if the weights are installed. Looks for the file, because the checkpoints import torch."""
    file = files("gankit.weights") / f"{TRAINED[name].file or name}.safetensors"
    return "" if file.is_file() else "not installed"


def _text(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_text(item)}" for key, item in value.items())
    if isinstance(value, list | tuple):
        texts = [_text(item) for item in value]
        return (" " if all(text.endswith(".") for text in texts) else ", ").join(texts)
    return f"{value:.4g}" if isinstance(value, float) else str(value)
