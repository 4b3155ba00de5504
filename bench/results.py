"""From a benchmark's JSON to tables that are kept: ``python -m bench.results FILE.json`` writes bench/results/*.csv.

    pytest --benchmark-only --full --images 24 --benchmark-json runs/bench.json
    python -m bench.results runs/bench.json

There is a file for each model, named after the machine, its instructions and the model; its first lines say what the
machine was and which versions ran. Rows without a model are in the first model's.
"""

from __future__ import annotations

import csv
import json
import re
import sys
from pathlib import Path
from typing import Any

from bench.common import EAGER, OPENVINO, ROOT, Row, ratio
from bench.table import number

COLUMNS = (
    "suite", "what", "precision", "device", "threads", "input", "n", "median ms", "spread %", "MP/s in", "GFLOP/s",
    "peak MiB", "start s", "parity dB", "x eager", "x OpenVINO", "remark",
)  # fmt: skip


def rows(report: dict[str, Any]) -> list[Row]:
    """The rows of the closing table."""
    return [Row(**row) for item in report["benchmarks"] for row in item["extra_info"].get("rows", ())]


def write(report: dict[str, Any], folder: Path) -> list[Path]:
    """Write the CSVs of a report and return their paths."""
    facts, every = report["machine_info"]["gankit"], rows(report)
    machine = dict(facts["machine"], features=" ".join(facts["machine"]["features"]))
    models = dict.fromkeys([*(row.model for row in every if row.model), *([] if any(r.model for r in every) else [""])])
    first = facts["model"] if facts["model"] in models else next(iter(models))
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for model in models:
        parts = (machine["cpu"], f"{machine['cores']} cores", machine["features"], machine["gpu"] or "")
        words = " ".join((*parts, model or facts["model"])).lower()  # machines of one name differ in their features
        path = folder / f"{re.sub(r'[^a-z0-9]+', '_', words).strip('_')}.csv"
        found = [row for row in every if row.model == model or (not row.model and model == first)]
        with path.open("w", newline="", encoding="utf-8") as file:
            file.write(f"# {report['datetime'][:10]}, commit {report['commit_info'].get('id', 'unknown')[:12]}\n")
            file.write("# " + ", ".join(f"{key} {value}" for key, value in machine.items() if value) + "\n")
            file.write("# " + ", ".join(f"{k} {value}" for k, value in facts["versions"].items() if value) + "\n")
            table = csv.writer(file, lineterminator="\n")
            table.writerow(COLUMNS)
            table.writerows(cells(row, every) for row in found)
        paths.append(path)
    return paths


def cells(row: Row, every: list[Row]) -> list[str]:
    """The text of one row."""
    return [
        row.suite, row.label, row.precision, row.device, "" if row.threads is None else str(row.threads), row.size,
        "" if row.rounds is None else str(row.rounds), number(row.milliseconds, 1 if row.milliseconds >= 10 else 4),
        number(None if row.spread is None else 100 * row.spread, 1), number(row.speed, 4) if row.megapixels else "",
        number(row.gflops, 0) if row.gflop else "", number(row.peak_mib, 0), number(row.start_seconds, 1),
        number(row.parity_db, 1), number(ratio(row, every, EAGER), 2), number(ratio(row, every, OPENVINO), 2),
        row.remark,
    ]  # fmt: skip


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    for written in write(json.loads(Path(sys.argv[1]).read_text()), ROOT / "bench" / "results"):
        print(written)
