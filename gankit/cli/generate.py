"""``gankit generate``: write images from noise, paths between them, or reconstructions."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gankit.cli.cluster_options import cluster_option, only_our_lines, runs_of
from gankit.cli.engine_options import engine_options
from gankit.cli.log import log_format_option
from gankit.cli.model_options import model_option
from gankit.cli.param_types import format_names
from gankit.errors import ImageError, UsageError
from gankit.options import EngineOptions
from gankit.pipeline.generated_files import Destination, Outcome, UsedEngine, extension_of, new_grid
from gankit.pipeline.generation import SampleRequest, write_samples
from gankit.pipeline.reconstruction import Reconstructor, reconstructor
from gankit.pipeline.sampler import Sampler
from gankit.storage.generated import image_file, image_folder, local_file
from gankit.storage.urls import any_url, as_path

if TYPE_CHECKING:
    from gankit.cli.progress import Bar
    from gankit.cli.progress_json import JsonLines
    from gankit.pipeline.items import Progress
    from gankit.pipeline.report import Report
    from gankit.pipeline.resume import Decision

_SAMPLES = 64


@click.command()
@click.option(
    "-m",
    "--model",
    required=True,
    metavar="NAME|FILE",
    help="Name of a model (see `gankit models`), or a weights file.",
)
@click.option("-o", "--output", required=True, metavar="DIR|URL", help="Folder for the images.")
@click.option(
    "-n",
    "number",
    type=int,
    default=None,
    help=f"Number of samples, or of paths with --interpolate.  [default: {_SAMPLES}]",
)
@click.option("--class", "class_", type=int, default=None, help="Class of all samples.  [default: every class in turn]")
@click.option("--seed", type=int, default=None, help="Random seed. The same seed gives the same images.  [default: 0]")
@click.option(
    "--truncation",
    type=float,
    default=None,
    help="Largest absolute value in a latent. Smaller values give more typical but less varied images.  "
    "[default: no limit]",
)
@click.option(
    "--interpolate",
    "steps",
    type=int,
    default=None,
    metavar="STEPS",
    help="Write paths from one sample to another, each of STEPS images, instead of single samples.",
)
@click.option(
    "--reconstruct",
    metavar="DIR|URL",
    default=None,
    help="Encode and decode the images in DIR instead of sampling. The model needs an encoder, such as vae, and the "
    "images must have its size.",
)
@click.option("--grid", metavar="FILE|URL", default=None, help="Also write all images to FILE as one sample grid.")
@click.option(
    "--format",
    "format_",
    metavar="FORMAT",
    default="png",
    show_default=True,
    help=f"File format: {format_names()}.",
)
@engine_options(tiles=False, batch="samples")
@model_option
@cluster_option
@click.option("--overwrite", is_flag=True, help="Replace existing results.")
@log_format_option
@click.option("-q", "--quiet", is_flag=True, help="Print errors only.")
def generate(
    model: str,
    output: str,
    number: int | None,
    class_: int | None,
    seed: int | None,
    truncation: float | None,
    steps: int | None,
    reconstruct: str | None,
    grid: str | None,
    format_: str,
    engine: EngineOptions,
    model_options: dict[str, Any],
    cluster: str | None,
    overwrite: bool,
    quiet: bool,
) -> int:
    """Generate images from noise.

    The images are numbered, starting with 000000.png. The number and the seed determine an image, whatever the batch,
    the backend and the number of samples. Existing results are skipped, so you can continue an interrupted run with
    the same command.

    Exit status: 0 if all images were written, 1 if some failed, 2 for a usage error.
    """
    if output == "":
        raise UsageError("--output is an empty name; use '.' for the current folder")
    if reconstruct is not None:
        given = {"-n": number, "--class": class_, "--seed": seed, "--truncation": truncation, "--interpolate": steps}
        if extra := [name for name, value in given.items() if value is not None]:
            raise UsageError(f"--reconstruct does not sample; omit {' and '.join(extra)}")
    from gankit.cli.progress_json import listener

    bar = listener(quiet=quiet)
    sampler = Sampler(model, engine=engine, notify=None if quiet else bar.print, options=model_options or None)
    destination = Destination(image_folder(output), format_, overwrite, None if grid is None else image_file(grid))
    with sampler, bar:
        if reconstruct is not None:
            make = partial(reconstructor, model, options=model_options or None)
            outcome = _reconstruct(sampler, (reconstruct, output), destination, bar, cluster, make)
        else:
            request = SampleRequest(_SAMPLES if number is None else number, seed or 0, class_, truncation, steps)
            write = write_samples
            if cluster is not None:
                from gankit.cluster.generate import write_samples_on_cluster

                worker = partial(Sampler, model, options=model_options or None)
                write = partial(write_samples_on_cluster, address=cluster, worker=worker)
            outcome = _sample(write, sampler, request, destination, bar, hidden=cluster is not None)
        bar.done(
            {
                "done": outcome.done,
                "skipped": outcome.skipped,
                "failed": outcome.failed,
                "seconds": round(outcome.seconds, 6),
            }
        )
        if not quiet:
            click.echo(_summary(sampler.facts.name, outcome))
    return 1 if outcome.failed else 0


def _sample(
    write: Callable[..., Outcome],
    sampler: Sampler,
    request: SampleRequest,
    destination: Destination,
    bar: Bar | JsonLines,
    *,
    hidden: bool,
) -> Outcome:
    """Write samples; ``hidden`` hides what Ray prints."""

    def progress(state: Progress) -> None:
        """Report an image that was written; each call is about one."""
        if state.current is not None:
            bar.file(None, state.current, "done")
        bar.update(state)

    def failed(error: ImageError) -> None:
        bar.file(None, error.path, "failed", str(error))

    with only_our_lines() if hidden else nullcontext():
        return write(sampler, request, destination, progress, failed)


def _reconstruct(
    sampler: Sampler,
    places: tuple[str, str],
    destination: Destination,
    bar: Bar | JsonLines,
    cluster: str | None,
    worker: Callable[..., Reconstructor],
) -> Outcome:
    """Write reconstructions, and the sample grid if there is one.

    Args:
        sampler: the autoencoder and its engine.
        places: paths or URLs of the folder of the images and of that of the results.
        destination: where to write them.
        bar: is told what becomes of each image.
        cluster: address of a cluster; ``None`` runs in this process.
        worker: makes the reconstructor of a worker.
    """
    extension_of(destination)
    if cluster is not None:
        from gankit.cluster.ray_data import check

        check(cluster)
    source, output = (str(as_path(place)) for place in places)
    made = Reconstructor(sampler)
    sampler.encoding()
    run: Callable[..., Report] = made.run
    plan: Callable[..., list[Decision]] = made.plan
    if cluster is not None or any_url([source, output]):
        there, planned = runs_of(cluster, [source, output], worker)
        run, plan = partial(there, made), partial(planned, made)
    options = {"format": destination.format.lower(), "overwrite": destination.overwrite}
    sources: list[Path] = []
    if destination.grid is not None:
        made.notify = None  # the run says it
        sources = [each.job.source for each in plan([source], output, **options)]
        made.notify = sampler.notify
        new_grid(sampler, 2 * len(sources), None)  # it may be too large
        destination.grid[0].prepare("--grid")
    report = run([source], output, progress=bar.update, each=bar.image, **options)
    if destination.grid is not None and sources:
        made.write_grid(sources, destination.grid, local_file)
    totals, engine = report.totals, report.engine
    used = None
    if engine is not None and totals.done + totals.failed:
        used = UsedEngine(engine.backend, engine.precision, engine.device, engine.parity_db or math.inf)
    return Outcome(totals.done, len(report.images) - totals.done - totals.failed, totals.failed, report.seconds, used)


def _summary(model: str, outcome: Outcome) -> str:
    """Summarise the run: the engine, its parity and the number of images."""
    lines, counts = [], [f"{outcome.done} done"]
    if (engine := outcome.engine) is not None:
        on = f"{engine.backend} {engine.precision} ({engine.device})"
        lines.append(f"{model} on {on}, parity with fp32 {engine.parity_db:.1f} dB")
    counts += [f"{outcome.skipped} skipped (results exist)"] if outcome.skipped else []
    counts += [f"{outcome.failed} failed"] if outcome.failed else []
    speed = f" in {outcome.seconds:.1f} s" if outcome.done else ""
    return "\n".join([*lines, ", ".join(counts) + speed])
