"""``gankit bench``: measure every engine that can run a model on this machine."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gankit.cli.model_options import model_option

if TYPE_CHECKING:
    from gankit_export.precisions import Precision
    from rich.table import Table

    from gankit.models.facts import Direction
    from gankit.pipeline.benchmark_rows import Row
    from gankit.pipeline.benchmarking import Measurements

_NOTES = (
    "ms: of one run. spread: slowest minus fastest run, divided by the median; rows above 10% are marked unstable.",
    "TFLOP/s: of convolutions and matrix products. ceiling: as a share of the best convolution in the same rounds.",
    "peak: memory of the engine's process. start: from the start of the process to the first result, exports cached.",
    "parity: worst PSNR against fp32 on a real image and on synthetic ones, or on samples.",
)


class _Sides(click.ParamType):  # type: ignore[type-arg]
    """Width and height of an image, or the side of a square one."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return height and width in pixels."""
        if isinstance(value, tuple):
            return value
        found = re.fullmatch(r"([0-9]{1,5})(?:[x×]([0-9]{1,5}))?", str(value))
        if found is None or "0" in {(found[1]).lstrip("0") or "0", (found[2] or "1").lstrip("0") or "0"}:
            self.fail(f"'{value}' is not WIDTHxHEIGHT, such as 1920x1080, or one side, such as 256", param, ctx)
        width = int(found[1])
        return int(found[2] or width), width


@click.command()
@click.option(
    "-m",
    "--model",
    default="srgan",
    show_default=True,
    metavar="NAME|FILE",
    help="Name of a model (see `gankit models`), or a weights file.",
)
@click.option(
    "-b",
    "--backend",
    "backends",
    multiple=True,
    metavar="NAME",
    help="Backend to measure. Can be repeated.  [default: all that can run, except those that compile for minutes]",
)
@click.option(
    "--precision",
    "precisions",
    multiple=True,
    type=click.Choice(["fp32", "bf16", "fp16"]),
    help="Precision to measure. Can be repeated.  [default: all that the machine runs in hardware]",
)
@click.option(
    "--device",
    metavar="DEVICE",
    default="auto",
    show_default=True,
    help="Device to run on: cpu, cuda, cuda:1, …, or auto for a GPU if there is one.",
)
@click.option(
    "--size",
    "sizes",
    multiple=True,
    type=_Sides(),
    metavar="WxH",
    help="Width and height of the input in pixels, such as 1920x1080, or one side, such as 256. Can be repeated.  "
    "[default: 256]",
)
@click.option(
    "--batch", type=click.IntRange(1), help="Number of images or samples of one run.  [default: 1 image or 64 samples]"
)
@click.option(
    "--tile", type=click.IntRange(1), help="Side of a tile in input pixels, including the halo.  [default: auto]"
)
@click.option("--threads", type=click.IntRange(1), help="Number of CPU threads.  [default: one per physical core]")
@click.option(
    "--rounds", type=click.IntRange(1), default=10, show_default=True, help="Number of timed runs of each engine."
)
@click.option(
    "--seconds",
    type=click.FloatRange(0, min_open=True),
    default=60.0,
    show_default=True,
    help="Time for the rounds of one size. Fewer rounds run if they would take longer.",
)
@click.option("--csv", "csv_file", type=click.Path(path_type=Path), metavar="FILE", help="Write the table as CSV.")
@click.option(
    "--plot",
    "plot_file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Draw the speeds: an .svg, .png or .pdf file. Needs the extra `plot`.",
)
@click.option("--direction", type=click.Choice(["AtoB", "BtoA"]), help="Which generator of a pair to measure.")
@model_option
@click.option("--overwrite", is_flag=True, help="Replace the files if they exist.")
@click.option("-q", "--quiet", is_flag=True, help="Print no progress.")
def bench(
    model: str,
    backends: tuple[str, ...],
    precisions: tuple[Precision, ...],
    device: str,
    sizes: tuple[tuple[int, int], ...],
    batch: int | None,
    tile: int | None,
    threads: int | None,
    rounds: int,
    seconds: float,
    csv_file: Path | None,
    plot_file: Path | None,
    direction: Direction | None,
    model_options: dict[str, Any],
    overwrite: bool,
    quiet: bool,
) -> int:
    """Measure the engines that can run a model here.

    Each backend runs in each of its precisions, in a process of its own and in turn with the others, so that whatever
    disturbs the machine disturbs all of them. The table gives the time of one image in memory, without decoding and
    encoding, the speed, the arithmetic as a share of what this machine reaches with a single convolution, the memory,
    the time to start, and the parity with fp32. Compare figures of one run only.

    Example: gankit bench --model srgan --size 256 --size 1920x1080 --csv srgan.csv --plot srgan.svg

    Exit status: 0 if all engines ran, 1 if one of them failed, 2 for a usage error.
    """
    from gankit.pipeline import benchmark_rows as results
    from gankit.pipeline.benchmarking import DEFAULT_SIZES, BenchmarkOptions, measure

    for path, suffixes in ((csv_file, (".csv",)), (plot_file, results.PLOT_SUFFIXES)):
        if path is not None:
            results.check_file(path, suffixes, overwrite)
    if plot_file is not None:
        results.check_plot()
    options = BenchmarkOptions(
        backends, precisions, device, sizes or DEFAULT_SIZES, batch, tile, threads, rounds, seconds
    )
    notify = _Progress(quiet)
    found = measure(model, options, direction=direction, model_options=model_options, notify=notify)
    notify("")
    _print(found)
    if csv_file is not None:
        results.write_csv(found.rows, csv_file, {**found.machine, **found.versions})
        click.echo(str(csv_file))
    if plot_file is not None:
        processor = (found.rows[0].device != "cpu" and found.machine["gpu"]) or found.machine["cpu"]
        results.plot(found.rows, plot_file, f"{found.rows[0].model}, {processor}")
        click.echo(str(plot_file))
    return 1 if any(row.error for row in found.rows) else 0


class _Progress:
    """One line on stderr that says what runs now, unless stderr is no terminal.

    Args:
        quiet: whether to print nothing at all.
    """

    def __init__(self, quiet: bool) -> None:
        self._shown = not quiet and sys.stderr.isatty()

    def __call__(self, line: str) -> None:
        if self._shown:
            click.echo(f"\r\x1b[K{line}", nl=False, err=True)


def _print(found: Measurements) -> None:
    from rich.console import Console

    console = Console(highlight=False)
    console = Console(highlight=False, width=max(console.width, 132), soft_wrap=True)
    for name in dict.fromkeys(row.input for row in found.rows):
        console.print(_table([row for row in found.rows if row.input == name]))
    for line in _NOTES:
        console.print(line, style="dim", markup=False)
    for line in found.omitted:
        console.print(f"not measured: {line}", markup=False)


def _table(rows: Sequence[Row]) -> Table:
    """Make the table of one size. A column that is empty in all rows is left out."""
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    first = rows[0]
    images = f", batch {first.batch}" if first.batch > 1 and "×" in first.input else ""
    title = f"{escape(first.model)}, {first.input}{images}, {first.device}"
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    cells = [dict(_cells(row)) for row in rows]
    for name in cells[0]:
        if any(line[name] for line in cells):
            table.add_column(name, justify="left" if name in ("engine", "remark") else "right", no_wrap=True)
    shown = [str(column.header) for column in table.columns]
    for line, row in zip(cells, rows, strict=True):
        style = "red" if row.error or row.below_gate else "yellow" if row.unstable else None
        table.add_row(*(escape(line[name]) for name in shown), style=style)
    return table


def _cells(row: Row) -> Iterator[tuple[str, str]]:
    """Yield the name and the text of each cell."""
    yield "engine", row.label
    yield "n", str(len(row.seconds) or "")
    yield "median ms", _number(row.median, 1e3)
    yield "p90 ms", _number(row.p90, 1e3)
    yield "spread", "" if row.spread is None else f"{row.spread:.0%}"
    yield "MP/s", _number(row.megapixels_per_second)
    yield "TFLOP/s", _number(row.flops, 1e-12)
    yield "ceiling", "" if row.share is None else f"{row.share:.0%}"
    yield "peak MiB", "" if row.peak is None else f"{row.peak / 2**20:.0f}"
    yield "GPU MiB", "" if row.gpu is None else f"{row.gpu / 2**20:.0f}"
    yield "start s", "" if row.start_seconds is None else f"{row.start_seconds:.1f}"
    yield "parity dB", "" if row.parity is None else f"{row.parity:.1f}"
    yield "remark", "; ".join(_remarks(row))


def _remarks(row: Row) -> Iterator[str]:
    if row.error:
        yield f"failed: {row.error}"
    if row.below_gate:
        yield f"below the gate of 45 dB{f' on {row.parity_image}' if row.parity_image else ''}"
    if row.contrast:
        yield f"images of contrast below {row.contrast:.0f} run in fp32"
    if row.unstable:
        yield "unstable"


def _number(value: float | None, factor: float = 1.0) -> str:
    """Return a number with three significant digits, without an exponent."""
    if value is None:
        return ""
    scaled = value * factor
    return f"{scaled:.0f}" if scaled >= 100 else f"{scaled:#.3g}" if scaled >= 1e-4 else f"{scaled:.1e}"
