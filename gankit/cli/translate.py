"""``gankit translate``: images through an image-to-image generator, at their own size."""

from __future__ import annotations

from functools import partial
from typing import Any

import click

from gankit.cli.images import image_options, run
from gankit.pipeline.translator import Translator


@click.command()
@image_options
@click.option("-m", "--model", required=True, help="A weights file, or a name of `gankit models`.")
@click.option("--direction", type=click.Choice(["AtoB", "BtoA"]), help="Which generator of a pair (CycleGAN) to run.")
@click.option(
    "--norm",
    type=click.Choice(["instance", "eval"]),
    help="Whether BatchNorm uses the statistics of the image or the running ones.  [default: as in the model's paper]",
)
def translate(model: str, direction: Any, norm: Any, **options: Any) -> int:
    """Translate images. Each result has the size of its source.

    PATH is a file, a folder (with everything below it) or a quoted pattern such as 'photos/**/*.png'. Without
    --output, the results of photos/ go to photos_translated/ beside it, and that of a.png to a_translated.png.
    Results that exist already are skipped, so an interrupted run can simply be started again.

    Exit status: 0 if all images were translated, 1 if some failed, 2 for wrong use.
    """
    return run(partial(Translator, model, direction=direction, norm=norm), **options)
