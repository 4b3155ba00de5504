"""From a benchmark's JSON to a table that is kept: ``python -m bench.results FILE.json`` writes bench/results/*.csv.

    pytest bench --benchmark-only --images 24 --benchmark-json runs/bench.json
    python -m bench.results runs/bench.json

The file is named after the machine and the model; its first lines say what it was and which versions ran.
"""

from __future__ import annotations

import csv
import json
import re
import sys
from pathlib import Path
from typing import Any

from bench.common import EAGER, OPENVINO, ROOT, Row, ratio

COLUMNS = ("suite", "what", "median ms", "rounds", "MP/s in", "GFLOP/s", "parity dB", "x eager", "x OpenVINO default")


def rows(report: dict[str, Any]) -> list[tuple[Row, int, float | None]]:
    """The rows that say what they measured, with their rounds and GFLOP/s; times are of one image on folders."""
    found = []
    for item in report["benchmarks"]:
        extra = item["extra_info"]
        if "label" not in extra:
            continue
        milliseconds = extra.get("milliseconds") or item["stats"]["median"] * 1e3 / extra.get("images", 1)
        megapixels = extra.get("MP/s in", 0.0) * milliseconds / 1e3
        row = Row(item["group"], extra["label"], milliseconds, megapixels, extra.get("parity_db"))
        found.append((row, item["stats"]["rounds"], extra.get("GFLOP/s")))
    return found


def write(report: dict[str, Any], folder: Path) -> Path:
    """Write the CSV of a report and return its path."""
    facts = report["machine_info"]["gankit"]
    machine, versions = dict(facts["machine"]), facts["versions"]
    machine["features"] = " ".join(machine["features"])
    name = re.sub(
        r"[^a-z0-9]+", "_", f"{machine['cpu']} {machine['cores']} cores {machine['gpu'] or ''} {facts['model']}".lower()
    )
    path = folder / f"{name.strip('_')}.csv"
    folder.mkdir(parents=True, exist_ok=True)
    found = rows(report)
    with path.open("w", newline="", encoding="utf-8") as file:
        file.write(f"# {report['datetime'][:10]}, commit {report['commit_info'].get('id', 'unknown')[:12]}\n")
        file.write("# " + ", ".join(f"{key} {value}" for key, value in machine.items() if value) + "\n")
        file.write("# " + ", ".join(f"{key} {value}" for key, value in versions.items() if value) + "\n")
        table = csv.writer(file, lineterminator="\n")
        table.writerow(COLUMNS)
        every = [row for row, *_ in found]
        for row, rounds, rate in found:
            ratios = [_text(ratio(row, every, baseline), 2) for baseline in (EAGER, OPENVINO)]
            speed = f"{row.speed:.4f}" if row.megapixels else ""
            figures = (f"{row.milliseconds:.1f}", rounds, speed, _text(rate, 0), _text(row.parity_db, 1))
            table.writerow((row.suite, row.label, *figures, *ratios))
    return path


def _text(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    print(write(json.loads(Path(sys.argv[1]).read_text()), ROOT / "bench" / "results"))
