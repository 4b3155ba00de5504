"""What ``gankit upscale`` and ``gankit translate`` share: options, the run, the report and the summary."""

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
        help="Folder for the results.  [default: beside the inputs, as described above]",
    ),
)
_AFTER = (
    click.option(
        "--format",
        metavar="FORMAT",
        default=None,
        help="File format of the results: png, jpg, webp, tiff or bmp.  [default: that of the source]",
    ),
    click.option("--suffix", default="", help="Text to add to each file name, before the extension."),
    click.option(
        "--quality", type=click.IntRange(1, 100), default=95, show_default=True, help="JPEG and WebP quality."
    ),
    model_option,
    click.option("--overwrite", is_flag=True, help="Replace existing results."),
    click.option(
        "--report", metavar="FILE", type=click.Path(dir_okay=False), help="Write a JSON report of the run to FILE."
    ),
    click.option("-q", "--quiet", is_flag=True, help="Print errors only."),
)


def image_options(command: Callable[..., int]) -> Callable[..., int]:
    """Add the argument and the options of these commands. Each command defines ``--model`` itself."""
    decorators: list[Callable[..., Any]] = [
        *_BEFORE,
        engine_options(tiles=True, batch="tiles, or of images of equal size,"),
    ]
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
    """Run a pipeline over the images, print the summary and write the report.

    Args:
        make: creates the pipeline from ``engine``, ``notify`` and ``options``.
        paths: files, folders and patterns.
        output: folder for the results; ``None`` writes them beside the inputs.
        engine: the engine options.
        format: file format of the results; ``None`` keeps the format of each source.
        suffix: text to add to each file name.
        quality: JPEG and WebP quality, 1 to 100.
        model_options: model options that replace those of the weights file.
        overwrite: whether to replace existing results.
        report: file for the JSON report; ``None`` writes none.
        quiet: whether to print errors only.

    Returns:
        The exit status.
    """
    if report is not None:
        _check_report(report, output)
    from gankit.cli.progress import Bar

    bar = Bar(shown=not quiet)
    pipeline = make(engine=engine, notify=None if quiet else bar.print, options=model_options)
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
                failed=lambda image: bar.print(f"error: {image.error}"),
            )
        except BaseException:
            if report is not None and pipeline.report is not None:
                with suppress(OutputError):  # report the error that ended the run, not this one
                    _write_report(pipeline.report, report)
            raise
    if report is not None:
        _write_report(done, report)
    if not quiet:
        click.echo(_summary(done))
    return 1 if done.failures else 0


def _check_report(file: str, output: str | None) -> None:
    """Check that the report can be written before the work begins. Its folder may be the output folder, made later."""
    folder = Path(file).parent
    if not file:
        raise UsageError("--report: the file name is empty")
    if is_folder(folder):
        prepare(folder, "--report")
    elif output is None or not Path(os.path.realpath(folder)).is_relative_to(os.path.realpath(output)):
        raise UsageError(f"{folder}: no such folder; use another --report or create the folder")


def _write_report(report: Report, file: str) -> None:
    prepare(Path(file).parent, "--report")
    report.write(file)


def _summary(report: Report) -> str:
    """Summarise the run in a few lines: the engine, its parity, the number of images and the speed."""
    totals, lines = report.totals, []
    if report.engine and report.model:
        engine = report.engine
        # The line always mentions the parity, even if it was not measured.
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
    counts += [f"{totals.skipped} skipped (results exist)"] if totals.skipped else []
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
