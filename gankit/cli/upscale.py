"""``gankit upscale``: images, folders and patterns."""

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
    """Upscale images.

    PATH is a file, a folder (with everything below it) or a quoted pattern such as 'photos/**/*.png'. Without
    --output, the results of photos/ go to photos_x4/ beside it, and that of a.png to a_x4.png (by the model's scale).
    Results that exist already are skipped, so an interrupted run can simply be started again.

    Exit status: 0 if all images were upscaled, 1 if some failed, 2 for wrong use.
    """
    return run(partial(Upscaler, model), **options)
