"""``gankit upscale``: upscale images, folders and patterns."""

from __future__ import annotations

from functools import partial
from typing import Any

import click

from gankit.cli.images import image_options, run
from gankit.pipeline.upscaler import Upscaler


@click.command()
@image_options
@click.option(
    "-m",
    "--model",
    default="srgan",
    show_default=True,
    metavar="NAME|FILE",
    help="Name of a model (see `gankit models`), or a weights file.",
)
def upscale(model: str, **options: Any) -> int:
    """Upscale images.

    PATH is a file, a folder (including its subfolders) or a quoted pattern such as 'photos/**/*.png'. Without
    --output, the results for photos/ go to photos_x4/ beside it, and the result for a.png to a_x4.png, if the model's
    scale is 4.

    Results that are up to date are skipped, so you can continue an interrupted run with the same command. A result is
    made again if its source, the model or an option has changed since. The file .gankit.jsonl beside the results
    records how each was made. Files that gankit did not make are kept, unless you add --overwrite.

    Exit status: 0 if all images were upscaled, 1 if some failed, 2 for a usage error.
    """
    return run(partial(Upscaler, model), **options)
