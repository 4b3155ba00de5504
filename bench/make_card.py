r"""Copy trained weights into the package and write their card.

    python bench/make_card.py srresnet runs/srresnet/best.safetensors --log runs/srresnet/log.csv \
        --command "gankit train srresnet …" --figures set5.json --figures set14.json

The figures are the files that ``gankit evaluate --json`` wrote for the same weights.
"""

from __future__ import annotations

import csv
import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import click
from safetensors import safe_open

from gankit.checkpoints import open_model
from gankit.models.cost import cost

ROOT = Path(__file__).resolve().parents[1]
PHOTOGRAPHS = (
    "127 photographs and paintings, long side up to 1600 px, under free licences (each with its source and licence in "
    "docs/training_photos.tsv; python -m bench.fetch_photos brings them together), and 24 generated images of text, "
    "line art and patterns (gankit.datasets.synthetic)"
)


@click.command()
@click.argument("name")
@click.argument("weights", type=click.Path(path_type=Path, exists=True))
@click.option("--log", "logs", type=click.Path(path_type=Path, exists=True), required=True, multiple=True)
@click.option("--command", required=True, help="The command that trained the weights.")
@click.option("--data", default=PHOTOGRAPHS, help="The training data, in words.  [default: the photographs]")
@click.option("--figures", type=click.Path(path_type=Path, exists=True), multiple=True, help="A JSON file of figures.")
@click.option("--only", help="Keep only the result with this label.")
@click.option("--note", "notes", multiple=True, help="A limit that users should know; may be repeated.")
def main(
    name: str,
    weights: Path,
    logs: tuple[Path, ...],
    command: str,
    data: str,
    figures: tuple[Path, ...],
    only: str | None,
    notes: tuple[str, ...],
) -> None:
    """Copy WEIGHTS to gankit/weights/NAME.safetensors, copy the logs to bench/results, and write the card.

    Give several logs in the order of their runs; their steps are added. For the two generators of a pair, NAME ends
    with _G_A or _G_B.
    """
    target = ROOT / "gankit" / "weights" / f"{name}.safetensors"
    with safe_open(weights, "pt") as file:
        header = file.metadata()
    shutil.copyfile(weights, target)
    stem = name.removesuffix("_G_A").removesuffix("_G_B").replace("-", "_")
    kept, steps = [], 0
    for index, log in enumerate(logs, 1):
        kept.append(ROOT / "bench" / "results" / f"train_{stem}{'' if len(logs) == 1 else f'_{index}'}.csv")
        kept[-1].parent.mkdir(parents=True, exist_ok=True)
        with log.open(newline="") as file:
            steps += max(int(row["step"]) for row in csv.DictReader(file))
        if log.resolve() != kept[-1].resolve():
            shutil.copyfile(log, kept[-1])
    card = {
        "model": header["model"],
        "sha256": hashlib.sha256(target.read_bytes()).hexdigest(),
        "bytes": target.stat().st_size,
        "options": json.loads(header["options"]),
        "multiply_accumulates": _cost(target),
        "data": data,
        "command": command,
        "steps": steps,
        "logs": [str(path.relative_to(ROOT)) for path in kept],
        "at_step": int(float(header["step"])) if "step" in header else steps,
        "validation_score": float(header["score"]) if "score" in header else None,
        "figures": {path.stem: _only(json.loads(path.read_text()), only) for path in figures},
        "licence": "Apache-2.0",
        "notes": list(notes),
    }
    target.with_suffix(".json").write_text(json.dumps(card, indent=1, ensure_ascii=False) + "\n")
    click.echo(f"{target.relative_to(ROOT)}: {card['bytes'] / 1e6:.2f} MB, {card['sha256'][:16]}…")


def _cost(weights: Path) -> int:
    """Multiply-accumulates of one image: of a square input of 256 pixels, or of one sample."""
    loaded = open_model(weights)
    facts = loaded.facts
    if facts.task == "generate":
        return cost(loaded.generator, (facts.latent,), conditional=facts.classes > 0).macs
    return cost(loaded.generator, 256, channels=facts.channels).macs


def _only(report: dict[str, Any], label: str | None) -> dict[str, Any]:
    """A report of ``gankit evaluate``, reduced to the results of one label."""
    return report if label is None else {**report, "results": {label: report["results"][label]}}


if __name__ == "__main__":
    main()
