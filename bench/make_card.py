r"""Put trained weights into the package with their card.

    python bench/make_card.py srresnet runs/srresnet/best.safetensors --log runs/srresnet/log.csv \
        --command "gankit train srresnet …" --figures set5.json --figures set14.json

The figures are what ``gankit evaluate --json`` wrote for the same file.
"""

from __future__ import annotations

import csv
import hashlib
import json
import shutil
from pathlib import Path

import click
from safetensors import safe_open

ROOT = Path(__file__).resolve().parents[1]
DATA = (
    "65 photographs and paintings, long side up to 1600 px, CC0, public domain, CC BY, Unsplash and BSD licensed, and "
    "24 generated pictures of text, line art and patterns (gankit.training.synthetic)"
)


@click.command()
@click.argument("name")
@click.argument("weights", type=click.Path(path_type=Path, exists=True))
@click.option("--log", type=click.Path(path_type=Path, exists=True), required=True)
@click.option("--command", required=True, help="What trained it.")
@click.option("--figures", type=click.Path(path_type=Path, exists=True), multiple=True)
@click.option("--note", multiple=True, help="Limits that a user should know.")
def main(name: str, weights: Path, log: Path, command: str, figures: tuple[Path, ...], note: tuple[str, ...]) -> None:
    """Copy WEIGHTS to gankit/weights/NAME.safetensors, its log to bench/results, and write the card."""
    target = ROOT / "gankit" / "weights" / f"{name}.safetensors"
    shutil.copyfile(weights, target)
    kept = ROOT / "bench" / "results" / f"train_{name}.csv"
    kept.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(log, kept)
    with safe_open(target, "pt") as file:
        header = file.metadata()
    with log.open(newline="") as file:
        steps = max(int(row["step"]) for row in csv.DictReader(file))
    card = {
        "model": name,
        "sha256": hashlib.sha256(target.read_bytes()).hexdigest(),
        "bytes": target.stat().st_size,
        "options": json.loads(header["options"]),
        "data": DATA,
        "command": command,
        "steps": int(float(header.get("step", steps))),
        "log": str(kept.relative_to(ROOT)),
        "validation_kodak24_psnr_y": float(header["score"]) if "score" in header else None,
        "figures": {path.stem: json.loads(path.read_text()) for path in figures},
        "licence": "Apache-2.0",
        "notes": list(note),
    }
    target.with_suffix(".json").write_text(json.dumps(card, indent=1, ensure_ascii=False) + "\n")
    click.echo(f"{target.relative_to(ROOT)}: {card['bytes'] / 1e6:.2f} MB, {card['sha256'][:16]}…")


if __name__ == "__main__":
    main()
