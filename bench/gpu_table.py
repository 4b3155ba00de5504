"""Print the tables of a day on a GPU as Markdown: ``python -m bench.gpu_table bench/results/gpu_day_NAME.csv``."""

from __future__ import annotations

import csv
import sys
from collections import defaultdict
from pathlib import Path

WAYS = ("plain PyTorch", "plain PyTorch, channels_last", "torch.compile, graphs", "gankit")
PARITY = "PSNR against plain PyTorch, dB"


def read(path: Path) -> tuple[list[str], list[dict[str, str]]]:
    """The remarks at the head of a summary, and its rows."""
    lines = path.read_text(encoding="utf-8").splitlines()
    remarks = [line.removeprefix("#").strip() for line in lines if line.startswith("#")]
    return remarks, list(csv.DictReader(line for line in lines if not line.startswith("#")))


def engines(rows: list[dict[str, str]]) -> list[str]:
    """Milliseconds of each engine, from uint8 to uint8 on the host, and how much faster gankit is."""
    found: dict[str, dict[tuple[str, str], float]] = defaultdict(dict)
    for row in rows:
        if row["step"] == "engines" and row["case"] and row["value"]:
            found[row["case"]][row["variant"], row["metric"]] = float(row["value"])
    lines = [
        f"| images, fp16 | {' | '.join(WAYS)} | input MP/s | × plain | parity, dB |",
        f"|---|{'---|' * (len(WAYS) + 3)}",
    ]
    for case, values in found.items():
        times = [values.get((way, "wall, ms")) for way in WAYS]
        if times[0] is None or times[-1] is None:
            continue
        cells = ["–" if value is None else f"{value:.2f}" for value in times]
        speed, parity = values["gankit", "wall, MP/s"], values.get(("gankit", PARITY))
        shown = "–" if parity is None else f"{parity:.1f}"
        lines.append(f"| {case} | {' | '.join(cells)} | {speed:.1f} | {times[0] / times[-1]:.2f} | {shown} |")
    return lines


def kernels(rows: list[dict[str, str]]) -> list[str]:
    """Microseconds of gankit's kernels beside torch's operations and a copy of as many bytes."""
    found: dict[str, dict[str, float]] = defaultdict(dict)
    for row in rows:
        if row["step"] == "kernels" and row["metric"] == "µs" and row["value"]:
            found[row["case"]][row["variant"]] = float(row["value"])
    lines = ["| kernel, fp16 | torch, µs | gankit, µs | copy, µs | × torch | % of copy |", "|---|---|---|---|---|---|"]
    for case, times in found.items():
        if {"torch", "gankit", "copy"} <= times.keys():
            torch, ours, copy = times["torch"], times["gankit"], times["copy"]
            lines.append(
                f"| {case} | {torch:.1f} | {ours:.1f} | {copy:.1f} | {torch / ours:.1f} | {100 * copy / ours:.0f} |"
            )
    return lines


def main() -> int:
    """The command."""
    if len(sys.argv) != 2:
        print(__doc__, file=sys.stderr)
        return 2
    remarks, rows = read(Path(sys.argv[1]))
    print("\n".join([*remarks, "", *engines(rows), "", *kernels(rows)]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
