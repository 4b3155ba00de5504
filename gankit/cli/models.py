"""``gankit models``: the registry, one model in full, and what a weights file is."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.table import Column, Table

from gankit import models as registry
from gankit.cli.model_options import model_option
from gankit.cli.process import one_line
from gankit.cli.weights_table import models_table, weights_tables
from gankit.errors import UsageError
from gankit.pipeline.paths import exists
from gankit.weights import TRAINED

if TYPE_CHECKING:
    from torch import nn

    from gankit.models.facts import Facts

_SIDE = 256  # pixels of the square image for which the cost is given


@click.command()
@click.argument("name", required=False)
@click.option("--direction", type=click.Choice(["AtoB", "BtoA"]), help="Which generator of a pair to describe.")
@model_option
def models(name: str | None, direction: Any, model_options: dict[str, Any]) -> None:
    """List the trained weights that ship with gankit and the models, or describe NAME.

    NAME is the name of trained weights, of a model, or of both: then the weights come first, followed by the model with
    the values of its paper. A model is described with all its options, which --model-option sets.

    NAME may also be a weights file. Then gankit says which model and options it recognised, by what, and what it
    assumed because the file does not tell.
    """
    console = Console()
    if name is not None and not registry.is_known(name) and exists(name):
        console.print(_rows(_file(name, direction, model_options)), markup=False, highlight=False)
        return
    if direction is not None or model_options:
        raise UsageError("--direction and --model-option describe a weights file: give its path as NAME")
    if name is None:
        _list(console)
        return
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
    """Print the weights by task, and all models."""
    for table in weights_tables():
        console.print(table, "", sep="\n", markup=False, highlight=False)
    console.print(models_table(), markup=False, highlight=False)


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


def _file(name: str, direction: Any, options: Mapping[str, Any]) -> dict[str, object]:
    """What a weights file is: its model, its options, by what they were recognised, and what was assumed."""
    from gankit.checkpoints import open_model

    loaded = open_model(Path(name), direction=direction, options=options)
    known = loaded.facts.name in registry.MODELS
    summary = f": {registry.entry(loaded.facts.name).summary}" if known else ""
    return {
        "file": str(loaded.path),
        "model": f"{loaded.facts.name}{summary}",
        "recognised by": loaded.recognised,
        "assumed": loaded.assumed or "nothing",
        "options": _pairs(loaded.facts.options) or "none",
        **_described(loaded.generator, loaded.facts),
        "sha256": loaded.sha256,
    }


def _pairs(options: Mapping[str, Any]) -> str:
    return " ".join(f"{key}={json.dumps(value)}" for key, value in options.items())


def _weights(name: str) -> dict[str, object]:
    """Describe trained weights: the facts of their model with their options, and their card."""
    from gankit.checkpoints import card

    found = card(name)
    architecture, options = found.pop("model"), found.pop("options")
    return {
        "weights": f"{name}: {TRAINED[name].summary}",
        "model": architecture,
        "options": _pairs(options),
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
    """The facts of a model with these options, or with the values of its paper."""
    return _described(registry.build(name, options).eval(), registry.facts(name, options))


def _described(generator: nn.Module, facts: Facts) -> dict[str, object]:
    """What is known of a generator, and what it costs."""
    from gankit_export.receptive_field import halo

    from gankit.checkpoints.exported import ExportedModule
    from gankit.models.cost import cost

    low, high = facts.value_range
    if isinstance(generator, ExportedModule) and facts.task == "generate":
        return {"paper": facts.paper, "task": facts.task, "latent": facts.latent, "value range": f"{low:g} to {high:g}"}
    if isinstance(generator, ExportedModule):
        return {
            "paper": facts.paper,
            "scale": f"×{facts.scale}",
            "channels": f"{facts.channels} -> {facts.out_channels or facts.channels}",
            "sizes": f"any; images are padded to multiples of {facts.multiple}" if facts.multiple > 1 else "any",
            "tiles": "yes" if facts.tileable else "no; every image runs whole",
            "value range": f"{low:g} to {high:g}",
        }
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
            **_input(facts),
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


def _text(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_text(item)}" for key, item in value.items())
    if isinstance(value, list | tuple):
        words = [_text(item) for item in value]
        return (" " if all(word.endswith(".") for word in words) else ", ").join(words)
    if isinstance(value, float):
        return f"{value:.4g}"
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in one_line(str(value)))


def _input(facts: Facts) -> dict[str, object]:
    """The kind of the input, unless it is an image."""
    if facts.input_kind == "image":
        return {}
    if facts.input_kind == "mask":
        return {"input": "masks of two values"}
    labels = f" with the labels {', '.join(map(str, facts.labels))}" if facts.labels else ""
    return {"input": f"label maps{labels}; they are read as indices"}
