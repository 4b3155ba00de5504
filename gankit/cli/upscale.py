"""``gankit upscale``: files, folders and patterns into a folder."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gankit.errors import OutputError, UsageError
from gankit.pipeline.output import prepare
from gankit.pipeline.paths import is_folder
from gankit.pipeline.upscaler import PRECISIONS, Upscaler

if TYPE_CHECKING:
    from gankit.pipeline.report import Report


class _Auto(click.ParamType):
    """A whole number above 0, or ``auto``."""

    name = "auto|number"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if value == "auto" or (isinstance(value, int) and value > 0):
            return value
        if isinstance(value, str) and value.isascii() and value.isdigit() and int(value) > 0:
            return int(value)
        self.fail(f"'{value}' is neither 'auto' nor a whole number above 0", param, ctx)


@click.command()
@click.argument("paths", metavar="PATH...", nargs=-1, required=True)
@click.option("-o", "--output", required=True, metavar="DIR", help="Folder for the results.")
@click.option("-m", "--model", default="srgan", show_default=True, help="A name of `gankit models`, or a weights file.")
@click.option(
    "-b",
    "--backend",
    default="auto",
    show_default=True,
    help="auto (the fastest that is right), or a name of `gankit doctor`, such as eager or openvino.",
)
@click.option("--precision", type=click.Choice(PRECISIONS), default=None, help="Arithmetic.  [default: auto]")
@click.option("--fp16", "shorthand", flag_value="fp16", default=None, help="Short for --precision fp16.")
@click.option("--bf16", "shorthand", flag_value="bf16", help="Short for --precision bf16.")
@click.option("--device", default="auto", show_default=True, help="cpu, cuda, cuda:1, …")
@click.option("--tile", type=_Auto(), default="auto", show_default=True, help="Side of a tile, in input pixels.")
@click.option("--batch", type=_Auto(), default="auto", show_default=True, help="Tiles in one call of the engine.")
@click.option("--threads", type=click.IntRange(1), default=None, help="CPU threads.  [default: the cores]")
@click.option("--format", "format_", default=None, help="png, jpg, webp, tiff or bmp.  [default: as the source]")
@click.option("--suffix", default="", help="Added to each name, before the extension.")
@click.option("--quality", type=click.IntRange(1, 100), default=95, show_default=True, help="Of JPEG and WebP.")
@click.option("--overwrite", is_flag=True, help="Do again what is there already.")
@click.option(
    "--report", "report_file", metavar="FILE", type=click.Path(dir_okay=False), help="Write what was done as JSON."
)
@click.option("-q", "--quiet", is_flag=True, help="Print errors only.")
def upscale(
    paths: tuple[str, ...],
    output: str,
    model: str,
    backend: str,
    precision: str | None,
    shorthand: str | None,
    device: str,
    tile: Any,
    batch: Any,
    threads: int | None,
    format_: str | None,
    suffix: str,
    quality: int,
    overwrite: bool,
    report_file: str | None,
    quiet: bool,
) -> int:
    """Upscale pictures into a folder.

    PATH is a file, a folder (with all below it, mirrored) or a quoted pattern such as 'photos/**/*.png'.
    What is in the output folder already is skipped, so that an interrupted run can be started again.

    Exit status: 0 all done, 1 some pictures failed, 2 wrong use.
    """
    if precision and shorthand and precision != shorthand:
        raise UsageError(f"--precision {precision} and --{shorthand} contradict each other: give one")
    if report_file is not None:
        _check_report(report_file, output)
    from gankit.cli.progress import Bar

    bar = Bar(shown=not quiet)
    upscaler = Upscaler(
        model,
        backend=backend,
        precision=precision or shorthand or "auto",
        device=device,
        tile=tile,
        batch=batch,
        threads=threads,
        notify=None if quiet else bar.tell,
    )
    with upscaler, bar:
        try:
            report = upscaler.run(
                paths,
                output,
                suffix=suffix,
                format=format_,
                overwrite=overwrite,
                quality=quality,
                progress=bar.update,
                failed=lambda picture: bar.tell(f"error: {picture.error}"),
            )
        except BaseException:
            if report_file is not None and upscaler.report is not None:
                with suppress(OutputError):  # what ended the run is the one to tell
                    _write_report(upscaler.report, report_file)
            raise
    if report_file is not None:
        _write_report(report, report_file)
    if not quiet:
        click.echo(_summary(report))
    return 1 if report.failures else 0


def _check_report(file: str, output: str) -> None:
    """Before the work, see that the report can be written. Its folder may be the output, which is yet to be made."""
    folder = Path(file).parent
    if not file:
        raise UsageError("--report: the name of the file is empty")
    if is_folder(folder):
        prepare(folder, "--report")
    elif not Path(os.path.realpath(folder)).is_relative_to(os.path.realpath(output)):
        raise UsageError(f"{folder}: no such folder for the report")


def _write_report(report: Report, file: str) -> None:
    prepare(Path(file).parent, "--report")
    report.write(file)


def _summary(report: Report) -> str:
    """What ran and what came of it, in a few lines."""
    totals, lines = report.totals, []
    if report.engine and report.model:
        engine = report.engine
        # A gate that was not measured is said to be so, not left out.
        parity = "not measured" if engine.parity_db is None else f"{engine.parity_db:.1f} dB"
        lines.append(
            f"{report.model.name} ×{report.model.scale} on {engine.backend} {engine.precision} ({engine.device}), "
            f"tile {engine.tile}, parity with fp32 {parity}"
        )
        if report.fp32_engine:
            lines.append(f"16-bit pictures (and values out of range) on {report.fp32_engine.backend} fp32")
    counts = [f"{totals.done} done"]
    counts += [f"{totals.skipped} skipped (there already)"] if totals.skipped else []
    counts += [f"{totals.failed} failed"] if totals.failed else []
    counts += [f"{totals.ignored} other files ignored"] if totals.ignored else []
    lines.append(", ".join(counts))
    if totals.done and report.engine:
        lines.append(
            f"{totals.output_mp:.1f} MP in {totals.seconds:.1f} s: {totals.output_mp_per_second:.1f} MP/s "
            f"(decode {totals.decode_seconds:.1f} s, engine {totals.engine_seconds:.1f} s, encode "
            f"{totals.encode_seconds:.1f} s, side by side; start {report.engine.start_seconds:.1f} s)"
        )
    return "\n".join(lines)
