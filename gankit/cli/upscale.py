"""``gankit upscale``: files, folders and patterns into a folder."""

from __future__ import annotations

from functools import partial
from typing import Any

import click

from gankit.cli.images import image_options, run
from gankit.pipeline.upscaler import Upscaler


@click.command()
@image_options
@click.option("-m", "--model", default="srgan", show_default=True, help="A name of `gankit models`, or a weights file.")
def upscale(model: str, **options: Any) -> int:
    """Upscale images into a folder.

    PATH is a file, a folder (with all below it, mirrored) or a quoted pattern such as 'photos/**/*.png'.
    What is in the output folder already is skipped, so that an interrupted run can be started again.

    Exit status: 0 all done, 1 some images failed, 2 wrong use.
    """
    return run(partial(Upscaler, model), **options)
