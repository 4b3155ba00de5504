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
    "127 photographs and paintings, long side up to 1600 px, under free licences (each with its source and licence in "
    "docs/training_photos.tsv; python -m bench.fetch_photos brings them together), and 24 generated pictures of text, "
    "line art and patterns (gankit.training.synthetic)"
)


@click.command()
@click.argument("name")
@click.argument("weights", type=click.Path(path_type=Path, exists=True))
@click.option("--log", "logs", type=click.Path(path_type=Path, exists=True), required=True, multiple=True)
@click.option("--command", required=True, help="What trained it.")
@click.option("--figures", type=click.Path(path_type=Path, exists=True), multiple=True)
@click.option("--note", multiple=True, help="Limits that a user should know.")
def main(
    name: str, weights: Path, logs: tuple[Path, ...], command: str, figures: tuple[Path, ...], note: tuple[str, ...]
) -> None:
    """Copy WEIGHTS to gankit/weights/NAME.safetensors, its logs to bench/results, and write the card.

    Of several logs, one per run in the order of the runs, the steps add up.
    """
    target = ROOT / "gankit" / "weights" / f"{name}.safetensors"
    shutil.copyfile(weights, target)
    kept, steps = [], 0
    for index, log in enumerate(logs, 1):
        kept.append(
            ROOT / "bench" / "results" / (f"train_{name}.csv" if len(logs) == 1 else f"train_{name}_{index}.csv")
        )
        kept[-1].parent.mkdir(parents=True, exist_ok=True)
        with log.open(newline="") as file:
            steps += max(int(row["step"]) for row in csv.DictReader(file))
        if log.resolve() != kept[-1].resolve():
            shutil.copyfile(log, kept[-1])
    with safe_open(target, "pt") as file:
        header = file.metadata()
    card = {
        "model": name,
        "sha256": hashlib.sha256(target.read_bytes()).hexdigest(),
        "bytes": target.stat().st_size,
        "options": json.loads(header["options"]),
        "data": DATA,
        "command": command,
        "steps": steps,
        "logs": [str(path.relative_to(ROOT)) for path in kept],
        "validation_kodak24_psnr_y": float(header["score"]) if "score" in header else None,
        "figures": {path.stem: json.loads(path.read_text()) for path in figures},
        "licence": "Apache-2.0",
        "notes": list(note),
    }
    target.with_suffix(".json").write_text(json.dumps(card, indent=1, ensure_ascii=False) + "\n")
    click.echo(f"{target.relative_to(ROOT)}: {card['bytes'] / 1e6:.2f} MB, {card['sha256'][:16]}…")


if __name__ == "__main__":
    main()
