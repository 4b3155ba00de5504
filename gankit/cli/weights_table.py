"""The tables of `gankit models`: the weights that ship, by task, and all models. Imports no torch."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from importlib.resources import files
from typing import Any

from rich.table import Column, Table

from gankit import models as registry
from gankit.weights import TRAINED, Trained

_FIGURES: Mapping[str, tuple[str, ...]] = {
    "upscale": ("Set5", "Set14", "q75"),
    "generate": ("Fréchet", "class"),
    "translate": ("figures",),
}
_TITLES: Mapping[str, str] = {
    "upscale": "Upscaling, ×4, or ×2 by name. PSNR on Y in dB on Set5, Set14 and Kodak's images as JPEG of quality 75",
    "generate": "Clothes from noise, 28×28, gray. Fréchet distance to the training images; class as asked in %",
    "translate": "Microscopy, on images that were held out",
}
_PER = {"upscale": "GMAC for 256²", "generate": "MMAC", "translate": "GMAC for 256²"}


def weights_tables() -> Iterable[Table]:
    """A table for each task: what the weights are for, their figures, cost, limits, data and licence."""
    for task in _TITLES:
        table = Table(
            Column("weights", no_wrap=True),
            Column("take it for", ratio=1),
            *(Column(name, justify="right", no_wrap=True) for name in _FIGURES[task]),
            Column(_PER[task], justify="right", max_width=8),
            Column("MB", justify="right", no_wrap=True),
            title=_TITLES[task],
            title_justify="left",
            title_style="bold",
            box=None,
            pad_edge=False,
            expand=True,
        )
        for name, weights in TRAINED.items():
            if weights.task == task:
                table.add_row(name, _text(weights), *_row(task, _card(weights.file or name)))
        yield table


def models_table() -> Table:
    """All models, one line each."""
    table = Table("model", "what it does", box=None, pad_edge=False)
    for known, line in sorted(registry.MODELS.items()):
        table.add_row(known, line.summary)
    return table


def _text(weights: Trained) -> str:
    return f"{weights.use}. {weights.limits}. Data: {weights.data}. {weights.licence}."


def _row(task: str, card: Mapping[str, Any] | None) -> list[str]:
    """The cells of the figures, of the cost and of the size; of weights that are not installed, why there are none."""
    blank = [""] * len(_FIGURES[task])
    if card is None:
        return [*blank[:-1], "not installed", "", ""]
    cost = float(card["multiply_accumulates"]) / (1e6 if task == "generate" else 1e9)
    return [*_figures(task, card.get("figures", {})), f"{cost:.3g}", f"{card['bytes'] / 1e6:.1f}"]


def _figures(task: str, figures: Mapping[str, Any]) -> list[str]:
    if task == "upscale":
        found = {name: _of(figures.get(name, {}).get("results")) for name in ("Set5", "Set14")}
        found["q75"] = _of(figures.get("kodak24", {}).get("conditions", {}).get("q75"))
        return [_number(each.get("psnr_y"), ".2f") for each in found.values()]
    if task == "generate":
        of_clothes: Mapping[str, Mapping[str, Any]] = figures.get("fashion_mnist", {}).get("results", {})
        made = next(iter(of_clothes.values()), {})
        return [_number(made.get("frechet_distance"), ".1f"), _number(made.get("class_agreement"), ".1%").rstrip("%")]
    held_out: Mapping[str, Any] = figures.get("held_out_fifth", {}).get("results", {})
    means: Iterable[Mapping[str, Any]] = (each["mean"] for each in held_out.values() if "mean" in each)
    own: Mapping[str, Any] = next(iter(means), {})
    if "dice" in own:
        return [f"Dice {own['dice']:.3f}"]
    return [f"PSNR {own['psnr']:.1f} dB"] if "psnr" in own else [""]


def _of(results: Mapping[str, Any] | None) -> Mapping[str, Any]:
    """The means of what is not the bicubic that stands beside it."""
    found: Iterable[Mapping[str, Any]] = (each["mean"] for label, each in (results or {}).items() if label != "bicubic")
    return next(iter(found), {})


def _number(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)


def _card(file: str) -> dict[str, Any] | None:
    """The card of a file of weights; ``None`` where either is not installed."""
    folder = files("gankit.weights")
    card = folder / f"{file}.json"
    if not (folder / f"{file}.safetensors").is_file() or not card.is_file():
        return None
    content: dict[str, Any] = json.loads(card.read_text(encoding="utf-8"))
    return content
