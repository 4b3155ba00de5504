"""What the commands that take images to images share: their options, the run, the report and the summary."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gankit.cli.engine_options import engine_options
from gankit.cli.model_options import model_option
from gankit.errors import OutputError, UsageError
from gankit.options import EngineOptions
from gankit.pipeline.images import ImagePipeline
from gankit.pipeline.output import prepare
from gankit.pipeline.paths import is_folder

if TYPE_CHECKING:
    from gankit.pipeline.report import Report


_BEFORE = (
    click.argument("paths", metavar="PATH...", nargs=-1, required=True),
    click.option(
        "-o",
        "--output",
        default=None,
        metavar="DIR",
        help="Folder for the results.  [default: beside the inputs, under a marked name]",
    ),
)
_AFTER = (
    click.option("--format", default=None, help="png, jpg, webp, tiff or bmp.  [default: as the source]"),
    click.option("--suffix", default="", help="Text added to each name, before the extension."),
    click.option(
        "--quality", type=click.IntRange(1, 100), default=95, show_default=True, help="Quality of JPEG and WebP."
    ),
    model_option,
    click.option("--overwrite", is_flag=True, help="Replace results that exist already."),
    click.option("--report", metavar="FILE", type=click.Path(dir_okay=False), help="Write a JSON report of the run."),
    click.option("-q", "--quiet", is_flag=True, help="Print errors only."),
)


def image_options(command: Callable[..., int]) -> Callable[..., int]:
    """The argument and options of every such command, in one order; ``--model`` is each command's own."""
    decorators: list[Callable[..., Any]] = [*_BEFORE, engine_options(tiles=True, batch="Tiles, or images of one size,")]
    for option in reversed([*decorators, *_AFTER]):
        command = option(command)
    return command


def run(
    make: Callable[..., ImagePipeline],
    *,
    paths: tuple[str, ...],
    output: str | None,
    engine: EngineOptions,
    format: str | None,
    suffix: str,
    quality: int,
    model_options: dict[str, Any],
    overwrite: bool,
    report: str | None,
    quiet: bool,
) -> int:
    """Take the images through a pipeline.

    Args:
        make: the pipeline of the command's model, by ``engine``, ``notify`` and ``options``.
        paths: files, folders and patterns.
        output: folder of the results; ``None`` for beside the inputs.
        engine: the options of the engine.
        format: of the results, ``None`` for each source's.
        suffix: of their names.
        quality: of JPEG and WebP.
        model_options: in place of those that the weights file holds.
        overwrite: replace results that exist already.
        report: file for a report of the run.
        quiet: print errors only.

    Returns:
        The exit status.
    """
    if report is not None:
        _check_report(report, output)
    from gankit.cli.progress import Bar

    bar = Bar(shown=not quiet)
    pipeline = make(engine=engine, notify=None if quiet else bar.tell, options=model_options)
    with pipeline, bar:
        try:
            done = pipeline.run(
                paths,
                output,
                suffix=suffix,
                format=format,
                overwrite=overwrite,
                quality=quality,
                progress=bar.update,
                failed=lambda image: bar.tell(f"error: {image.error}"),
            )
        except BaseException:
            if report is not None and pipeline.report is not None:
                with suppress(OutputError):  # what ended the run is the one to tell
                    _write_report(pipeline.report, report)
            raise
    if report is not None:
        _write_report(done, report)
    if not quiet:
        click.echo(_summary(done))
    return 1 if done.failures else 0


def _check_report(file: str, output: str | None) -> None:
    """Before the work, see that the report can be written. Its folder may be the output, which is yet to be made."""
    folder = Path(file).parent
    if not file:
        raise UsageError("--report: the name of the file is empty")
    if is_folder(folder):
        prepare(folder, "--report")
    elif output is None or not Path(os.path.realpath(folder)).is_relative_to(os.path.realpath(output)):
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
        if engine.parity_db == math.inf:
            parity = "exact"
        lines.append(
            f"{report.model.name} ×{report.model.scale} on {engine.backend} {engine.precision} ({engine.device}), "
            f"tile {engine.tile}, parity with fp32 {parity}"
        )
        if report.fp32_engine:
            lines.append(f"16-bit images (and values out of range) on {report.fp32_engine.backend} fp32")
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
