"""What the commands that take images to images share: their options, the run, the report and the summary."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gankit.cli.model_options import model_option
from gankit.errors import OutputError, UsageError
from gankit.pipeline.images import PRECISIONS, ImagePipeline
from gankit.pipeline.output import prepare
from gankit.pipeline.paths import is_folder

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


_OPTIONS = (
    click.argument("paths", metavar="PATH...", nargs=-1, required=True),
    click.option("-o", "--output", required=True, metavar="DIR", help="Folder for the results."),
    click.option(
        "-b",
        "--backend",
        default="auto",
        show_default=True,
        help="auto (the fastest that is right), or a name of `gankit doctor`, such as eager or openvino.",
    ),
    click.option("--precision", type=click.Choice(PRECISIONS), default=None, help="Arithmetic.  [default: auto]"),
    click.option("--fp16", "shorthand", flag_value="fp16", default=None, help="Short for --precision fp16."),
    click.option("--bf16", "shorthand", flag_value="bf16", help="Short for --precision bf16."),
    click.option("--device", default="auto", show_default=True, help="cpu, cuda, cuda:1, …"),
    click.option("--tile", type=_Auto(), default="auto", show_default=True, help="Side of a tile, in input pixels."),
    click.option("--batch", type=_Auto(), default="auto", show_default=True, help="Tiles in one call of the engine."),
    click.option("--threads", type=click.IntRange(1), default=None, help="CPU threads.  [default: the cores]"),
    click.option("--format", default=None, help="png, jpg, webp, tiff or bmp.  [default: as the source]"),
    click.option("--suffix", default="", help="Added to each name, before the extension."),
    click.option("--quality", type=click.IntRange(1, 100), default=95, show_default=True, help="Of JPEG and WebP."),
    model_option,
    click.option("--overwrite", is_flag=True, help="Do again what is there already."),
    click.option("--report", metavar="FILE", type=click.Path(dir_okay=False), help="Write what was done as JSON."),
    click.option("-q", "--quiet", is_flag=True, help="Print errors only."),
)


def image_options(command: Callable[..., int]) -> Callable[..., int]:
    """The argument and options of every such command, in one order; ``--model`` is each command's own."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def run(
    make: Callable[..., ImagePipeline],
    *,
    paths: tuple[str, ...],
    output: str,
    backend: str,
    precision: str | None,
    shorthand: str | None,
    device: str,
    tile: Any,
    batch: Any,
    threads: int | None,
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
        make: the pipeline of the command's model, by the options of the engine.
        paths: files, folders and patterns.
        output: folder of the results.
        backend: of the engine, as the next five.
        precision: ``None`` for the shorthand, or ``"auto"``.
        shorthand: ``--fp16`` or ``--bf16``.
        device: ``"auto"``, ``"cpu"``, ``"cuda"``, ….
        tile: side or ``"auto"``.
        batch: tiles in one call or ``"auto"``.
        threads: ``None`` for the cores.
        format: of the results, ``None`` for each source's.
        suffix: of their names.
        quality: of JPEG and WebP.
        model_options: in place of those that the weights file tells.
        overwrite: do again what is there.
        report: file to write what was done to.
        quiet: print errors only.

    Returns:
        The exit status.
    """
    if precision and shorthand and precision != shorthand:
        raise UsageError(f"--precision {precision} and --{shorthand} contradict each other: give one")
    if report is not None:
        _check_report(report, output)
    from gankit.cli.progress import Bar

    bar = Bar(shown=not quiet)
    pipeline = make(
        backend=backend,
        precision=precision or shorthand or "auto",
        device=device,
        tile=tile,
        batch=batch,
        threads=threads,
        notify=None if quiet else bar.tell,
        options=model_options,
    )
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
