"""``gankit generate``: images from noise, paths between them, and reconstructions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from gankit.cli.engine_options import engine_options
from gankit.cli.model_options import model_option
from gankit.errors import UsageError
from gankit.options import EngineOptions
from gankit.pipeline.generation import Outcome, Samples, Where, write_reconstructions, write_samples
from gankit.pipeline.sampler import Sampler

_SAMPLES = 64


@click.command()
@click.option("-m", "--model", required=True, help="A name of `gankit models`, or a weights file.")
@click.option("-o", "--output", required=True, metavar="DIR", help="Folder for the images.")
@click.option("-n", "number", type=int, default=None, help=f"Samples, or paths.  [default: {_SAMPLES}]")
@click.option("--class", "class_", type=int, default=None, help="Class of all of them.  [default: all in turn]")
@click.option("--seed", type=int, default=None, help="The same seed makes the same images.  [default: 0]")
@click.option("--truncation", type=float, default=None, help="Latents within ± this: less odd, less varied.")
@click.option("--interpolate", "steps", type=int, default=None, metavar="STEPS", help="Paths of that many images.")
@click.option("--reconstruct", metavar="DIR", default=None, help="Encode the images of a folder and decode them.")
@click.option("--grid", metavar="FILE", default=None, help="All images on one sample grid too.")
@click.option("--format", "format_", default="png", show_default=True, help="png, jpg, webp, tiff or bmp.")
@engine_options(tiles=False, batch="Samples")
@model_option
@click.option("--overwrite", is_flag=True, help="Do again what is there already.")
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
    overwrite: bool,
    quiet: bool,
) -> int:
    """Generate images from noise.

    They are named by their number, 000000.png first. Number and seed decide an image: the same for any batch, backend
    and number of samples. What is in the output folder already is skipped, so that an interrupted run can be started
    again.

    A path of --interpolate goes from one sample to another; --reconstruct takes images of the model's own size, and
    a model with an encoder (vae).

    Exit status: 0 all done, 1 some images failed, 2 wrong use.
    """
    if output == "":
        raise UsageError("the output is an empty name: the current folder is '.'")
    given = {"-n": number, "--class": class_, "--seed": seed, "--truncation": truncation, "--interpolate": steps}
    if reconstruct is not None and (extra := [name for name, value in given.items() if value is not None]):
        raise UsageError(f"--reconstruct samples nothing: leave {' and '.join(extra)} out")
    from gankit.cli.progress import Bar

    bar = Bar(shown=not quiet)
    sampler = Sampler(model, engine=engine, notify=None if quiet else bar.tell, options=model_options or None)
    where = Where(Path(output), format_, overwrite, None if grid is None else Path(grid))
    with sampler, bar:
        watch, tell = bar.update, lambda error: bar.tell(f"error: {error}")
        if reconstruct is not None:
            outcome = write_reconstructions(sampler, Path(reconstruct), where, watch, tell)
        else:
            samples = Samples(_SAMPLES if number is None else number, seed or 0, class_, truncation, steps)
            outcome = write_samples(sampler, samples, where, watch, tell)
        if not quiet:
            click.echo(_summary(sampler, outcome))
    return 1 if outcome.failed else 0


def _summary(sampler: Sampler, outcome: Outcome) -> str:
    """What ran and what came of it."""
    lines, counts = [], [f"{outcome.done} done"]
    if sampler.parity is not None:
        engine = sampler.start()
        on = f"{engine.backend} {engine.precision} ({engine.device})"
        lines.append(f"{sampler.facts.name} on {on}, parity with fp32 {sampler.parity.psnr:.1f} dB")
    counts += [f"{outcome.skipped} skipped (there already)"] if outcome.skipped else []
    counts += [f"{outcome.failed} failed"] if outcome.failed else []
    speed = f" in {outcome.seconds:.1f} s" if outcome.done else ""
    return "\n".join([*lines, ", ".join(counts) + speed])
