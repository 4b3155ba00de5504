"""What ``gankit upscale`` and ``gankit translate`` share: options, the run, the report and the summary."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Unpack

import click

from gankit.cli.cluster_options import cluster_option, runs_of
from gankit.cli.engine_options import engine_options
from gankit.cli.log import log_format_option
from gankit.cli.model_options import model_option
from gankit.cli.param_types import Pixels, format_names
from gankit.cli.process import one_line
from gankit.cli.video_options import video_options
from gankit.errors import OutputError, UsageError
from gankit.images import MAX_PIXELS
from gankit.options import EngineOptions
from gankit.pipeline.images import ImagePipeline
from gankit.pipeline.output import prepare
from gankit.pipeline.paths import is_folder
from gankit.storage.urls import as_path

if TYPE_CHECKING:
    from gankit.pipeline.report import Report
    from gankit.pipeline.resume import Decision
    from gankit.pipeline.run_options import RunKeywords

_CHANGED: Mapping[str, str] = MappingProxyType({"source": "the source", "model": "the model", "option": "an option"})

_LEAST_SECONDS = 1.0  # of a run for which the bottleneck is named; shorter ones mostly start and end

_BEFORE = (
    click.argument("paths", metavar="PATH...", nargs=-1, required=True),
    click.option(
        "-o",
        "--output",
        default=None,
        metavar="DIR|URL",
        help="Folder for the results, or the file of the result if the input is one clip.  [default: beside the "
        "inputs, as described above]",
    ),
)
_AFTER = (
    click.option(
        "--format",
        metavar="FORMAT",
        default=None,
        help=f"File format of the results: {format_names('same')}. PNG, WebP, GIF and TIFF hold animations.  [default: "
        "that of the source, and png for gif]",
    ),
    click.option("--suffix", default="", help="Text to add to each file name, before the extension."),
    click.option(
        "--quality", type=click.IntRange(1, 100), default=95, show_default=True, help="JPEG and WebP quality."
    ),
    click.option(
        "--max-pixels",
        type=Pixels(),
        default=f"{MAX_PIXELS / 1e6:g}MP",
        show_default=True,
        help="Largest source, such as 100MP. Larger images fail before they are decoded.",
    ),
    click.option(
        "--strip-metadata",
        is_flag=True,
        help="Leave out EXIF, XMP, IPTC, comments and PNG text. The colour profile is kept.",
    ),
    click.option(
        "--mark-ai",
        is_flag=True,
        help="State in the XMP metadata that a trained model edited the image (IPTC digital source type).",
    ),
    click.option("--keep-time", is_flag=True, help="Give each result the modification time of its source."),
    model_option,
    cluster_option,
    click.option("--overwrite", is_flag=True, help="Replace all existing files, including those of other programs."),
    click.option("--dry-run", is_flag=True, help="List the sources and their results, and write nothing."),
    click.option(
        "--report",
        metavar="FILE",
        type=click.Path(dir_okay=False),
        help="Write a report of the run to FILE: JSON, or a page with the images before and after if FILE ends with "
        ".html.",
    ),
    log_format_option,
    click.option("-q", "--quiet", is_flag=True, help="Print errors only."),
)


def image_options(command: Callable[..., int]) -> Callable[..., int]:
    """Add the argument and the options of these commands. Each command defines ``--model`` itself."""
    decorators: list[Callable[..., Any]] = [
        *_BEFORE,
        engine_options(tiles=True, batch="tiles, or of images of equal size,"),
    ]
    for option in reversed([*decorators, *_AFTER, video_options]):
        command = option(command)
    return command


def run(
    make: Callable[..., ImagePipeline],
    *,
    paths: tuple[str, ...],
    output: str | None,
    engine: EngineOptions,
    model_options: dict[str, Any],
    dry_run: bool,
    report: str | None,
    quiet: bool,
    codec: str | None,
    crf: float | None,
    preset: str | None,
    fps: str | None,
    cluster: str | None = None,
    **options: Unpack[RunKeywords],
) -> int:
    """Run a pipeline over the images and clips, print the summary and write the report.

    Args:
        make: creates the pipeline from ``engine``, ``notify`` and ``options``.
        paths: files, folders and patterns.
        output: folder for the results, or the result of a single clip; ``None`` writes them beside the inputs.
        engine: the engine options.
        model_options: model options that replace those of the weights file.
        dry_run: whether to list the sources and their results only.
        report: file for the report, JSON or a page; ``None`` writes none.
        quiet: whether to print errors only.
        codec: encoder of clips, as are the three that follow a field of :class:`gankit.video.VideoOptions`.
        crf: quality of clips.
        preset: speed of the encoder.
        fps: frame rate of clips.
        cluster: address of a Ray cluster that does the work; ``None`` does it in this process.
        options: the fields of :class:`gankit.pipeline.run_options.RunOptions`.

    Returns:
        The exit status.
    """
    paths, output = tuple(str(as_path(path)) for path in paths), None if output is None else str(as_path(output))
    if dry_run and report is not None:
        raise UsageError("--dry-run writes nothing; omit --report")
    if report is not None:
        _check_report(report, output)
    from gankit.cli.progress_json import listener
    from gankit.video import VideoOptions

    worker = partial(make, engine=engine, options=model_options)
    run_files, plan_files = runs_of(cluster, [*paths, output], worker)

    video = VideoOptions(codec=codec, crf=crf, preset=preset, fps=fps)
    bar = listener(quiet=quiet)
    pipeline = make(engine=engine, notify=None if quiet else bar.print, options=model_options)
    if dry_run:
        with pipeline:
            for decision in plan_files(pipeline, paths, output, video=video, **options):
                click.echo(one_line(_planned(decision)))
        return 0
    with pipeline, bar:
        try:
            done = run_files(
                pipeline,
                paths,
                output,
                video=video,
                progress=bar.update,
                each=bar.image,
                **options,
            )
        except BaseException:
            if report is not None and pipeline.report is not None:
                with suppress(OutputError):  # report the error that ended the run, not this one
                    _write_report(pipeline.report, report)
            raise
    if report is not None:
        _write_report(done, report)
    bar.done(done.to_dict()["totals"])
    if not quiet:
        click.echo(_summary(done))
    return 1 if done.failures else 0


def _planned(decision: Decision) -> str:
    """Describe what a run would do with one image."""
    why = {
        "new": "",
        "again": f" (again: {_CHANGED[decision.change]} changed)" if decision.change else " (overwritten)",
        "skip": " (skipped: up to date)",
        "keep": " (skipped: not made by gankit)",
    }
    return f"{decision.job.source} -> {decision.job.target}{why[decision.action]}"


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
    from gankit.pipeline.html_report import is_html, write_html

    prepare(Path(file).parent, "--report")
    if is_html(file):
        write_html(report, file)
    else:
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
    counts += [f"{totals.kept} skipped (not made by gankit)"] if totals.kept else []
    counts += [f"{totals.failed} failed"] if totals.failed else []
    counts += [f"{totals.ignored} other {'file' if totals.ignored == 1 else 'files'} ignored"] if totals.ignored else []
    unread = len(report.unread)
    counts += [f"{unread} {'image' if unread == 1 else 'images'} of other formats not read"] if unread else []
    lines.append(", ".join(counts))
    if totals.again:
        changed = [words for change, words in _CHANGED.items() if any(change == item.again for item in report.images)]
        listed = changed[0] if len(changed) == 1 else f"{', '.join(changed[:-1])} or {changed[-1]}"
        lines.append(f"{totals.again} done again: {listed} changed")
    if totals.done and report.engine:
        lines.append(
            f"{totals.output_mp:.1f} MP in {totals.seconds:.1f} s: {totals.output_mp_per_second:.1f} MP/s "
            f"(decode {totals.decode_seconds:.1f} s, engine {totals.engine_seconds:.1f} s, encode "
            f"{totals.encode_seconds:.1f} s, side by side; start {report.engine.start_seconds:.1f} s)"
        )
    if totals.bottleneck is not None and totals.seconds >= _LEAST_SECONDS:
        busy = f"the engine was busy {totals.engine_share:.0%} of the time"
        lines.append(busy if totals.bottleneck == "engine" else f"{busy}; the {totals.bottleneck} was the bottleneck")
    return "\n".join(lines)
