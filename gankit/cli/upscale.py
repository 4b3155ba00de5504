"""``gankit upscale``: upscale images, clips, folders and patterns."""

from __future__ import annotations

from functools import partial
from typing import Any

import click

from gankit.cli.images import image_options, run
from gankit.cli.strength_options import strength_options
from gankit.cli.video_options import CommandWithVideo
from gankit.pipeline.resize import FITS
from gankit.pipeline.upscaler import Upscaler
from gankit.weights import DEFAULT_UPSCALER, DEFAULT_UPSCALER_X2


@click.command(cls=CommandWithVideo)
@image_options
@click.option(
    "--scale",
    type=click.FloatRange(0, min_open=True),
    default=None,
    metavar="N",
    help="Enlarge by any factor, such as 2 or 1.5: the result of the model is resized with a Lanczos filter.  "
    "[default: the scale of the model]",
)
@click.option(
    "--width", type=click.IntRange(1), default=None, help="Width of the results in pixels, in place of --scale."
)
@click.option(
    "--height", type=click.IntRange(1), default=None, help="Height of the results in pixels, in place of --scale."
)
@click.option(
    "--fit",
    type=click.Choice(FITS),
    default=None,
    help="How an image of another shape fits --width and --height: it stays inside them, covers them and is cropped, "
    "or is stretched to exactly these.  [default: inside]",
)
@click.option(
    "--compare",
    is_flag=True,
    help="Write a comparison beside each result (NAME_compare.png): bicubic interpolation and the result, whole and "
    "1:1.",
)
@click.option(
    "-m",
    "--model",
    default=None,
    metavar="NAME|FILE",
    help="Name of a model (see `gankit models`), or a weights file.  "
    f"[default: {DEFAULT_UPSCALER}, or {DEFAULT_UPSCALER_X2} with a --scale of up to 2]",
)
@strength_options
def upscale(model: str | None, strength: float | None, faithful: str | None, **options: Any) -> int:
    """Upscale images and clips.

    PATH is an image, a clip, a folder (including its subfolders) or a quoted pattern such as 'photos/**/*.png'. Without
    --output, the results for photos/ go to photos_x4/ beside it, and the result for a.png to a_x4.png, if the model's
    scale is 4. With --scale 2 they are photos_x2/ and a_x2.png, and with --width 1920 photos_1920x/ and a_1920x.png.

    Results that are up to date are skipped, so you can continue an interrupted run with the same command. A result is
    made again if its source, the model or an option has changed since. The file .gankit.jsonl beside the results
    records how each was made. Files that gankit did not make are kept, unless you add --overwrite.

    Exit status: 0 if all images were upscaled, 1 if some failed, 2 for a usage error.
    """
    if model is None:
        twice = options["scale"] is not None and options["scale"] <= 2 and strength is None and faithful is None
        model = DEFAULT_UPSCALER_X2 if twice else DEFAULT_UPSCALER
    return run(partial(Upscaler, model, strength=strength, faithful=faithful), **options)
