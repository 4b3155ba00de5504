"""The closing table."""

from __future__ import annotations

import math
from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.table import Table

from bench.common import EAGER, GATE_DB, OPENVINO, STEADY, Row, ratio

_LEFT = ("backend", "precision", "device", "model", "input", "remark")
_COLUMNS = (
    "backend", "precision", "device", "threads", "model", "input", "n", "median ms", "spread", "MP/s",
    "peak MiB", "start s", "parity dB", "× OpenVINO", "remark",
)  # fmt: skip
_NOTES = {
    "n": "n: timed runs, in rounds (A B C A B C …); 1 where a candidate was too slow to repeat.",
    "spread": f"spread: slowest less fastest run, over the median; above {STEADY:.0%} the row is unstable.",
    "median ms": "median ms: of one image.",
    "MP/s": "MP/s: input megapixels per second.",
    "peak MiB": "peak MiB: largest resident memory of the candidate's process.",
    "start s": "start s: from the start of the candidate's process to its first result; exports are cached.",
    "parity dB": f"parity dB: PSNR against {EAGER} in fp32.",
    "× OpenVINO": f"× OpenVINO: speed over that of {OPENVINO}, which reads the exported ONNX file, takes the whole "
    "image and keeps its default settings (bf16 where the CPU has it).",
}


def cells(row: Row, rows: Sequence[Row]) -> list[str]:
    """The text of one row."""
    remarks = [row.remark] if row.remark else []
    if row.unstable:
        remarks.insert(0, "unstable")
    if row.below_gate:
        remarks.insert(0, f"below {GATE_DB:.0f} dB")
    return [
        row.label,
        row.precision,
        row.device,
        "" if row.threads is None else str(row.threads),
        row.model,
        row.size,
        "" if row.rounds is None else str(row.rounds),
        number(row.milliseconds, 1 if row.milliseconds >= 10 else 3),
        "" if row.spread is None else f"{row.spread:.0%}",
        number(row.speed, 3) if row.megapixels else "",
        number(row.peak_mib, 0),
        number(row.start_seconds, 1),
        number(row.parity_db, 1),
        number(ratio(row, rows, OPENVINO), 2),
        "; ".join(remarks),
    ]


def number(value: float | None, digits: int) -> str:
    """A number in so many digits; nothing for none and NaN."""
    return "" if value is None or math.isnan(value) else f"{value:.{digits}f}"


def render(rows: Sequence[Row], title: str, width: int = 0) -> str:
    """The table as text; columns that are empty in every row are left out.

    Args:
        rows: of all suites.
        title: above it.
        width: of the terminal; lines are longer where the text needs it, and are not broken.
    """
    text = {suite: [cells(row, rows) for row in rows if row.suite == suite] for suite in _suites(rows)}
    lines = [line for group in text.values() for line in group]
    shown = [index for index, _ in enumerate(_COLUMNS) if any(line[index] for line in lines)]
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for index in shown:
        name = _COLUMNS[index]
        table.add_column(name, justify="left" if name in _LEFT else "right", no_wrap=True)
    for suite, group in text.items():
        table.add_section()
        table.add_row(f"[bold]{suite}[/]")
        for line in group:
            table.add_row(*(line[index] for index in shown))
    console = Console(width=max(width, 320), force_terminal=False, highlight=False)
    with console.capture() as captured:
        console.print(table)
        for index in shown:
            if note := _NOTES.get(_COLUMNS[index]):
                console.print(note, soft_wrap=True)
    return "\n".join(line.rstrip() for line in captured.get().splitlines()) + "\n"


def _suites(rows: Sequence[Row]) -> list[str]:
    return list(dict.fromkeys(row.suite for row in rows))
