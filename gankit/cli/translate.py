"""``gankit translate``: run images and clips through an image-to-image generator. They keep their size."""

from __future__ import annotations

from functools import partial
from typing import Any

import click

from gankit.cli.images import image_options, run
from gankit.cli.video_options import CommandWithVideo
from gankit.pipeline.translator import Translator


@click.command(cls=CommandWithVideo)
@image_options
@click.option(
    "-m",
    "--model",
    required=True,
    metavar="NAME|FILE",
    help="Weights file, or the name of a model (see `gankit models`).",
)
@click.option(
    "--direction",
    type=click.Choice(["AtoB", "BtoA"]),
    help="Generator to run, if the weights file holds a pair (CycleGAN).",
)
@click.option(
    "--norm",
    type=click.Choice(["instance", "eval"]),
    help="Statistics that BatchNorm uses: those of the image (instance) or the running ones (eval).  [default: as in "
    "the model's paper]",
)
@click.option(
    "--source-kind",
    type=click.Choice(["image", "mask", "labels"]),
    help="What the values of the sources mean to the model: brightness, a mask of two values, or the numbers of "
    "classes.  [default: as the weights file says, else image]",
)
@click.option(
    "--mask-from",
    type=click.IntRange(1, 65535),
    metavar="N",
    help="Lowest value of a source that is set, if the model takes masks.  [default: masks have two values]",
)
def translate(model: str, direction: Any, norm: Any, source_kind: Any, **options: Any) -> int:
    """Translate images and clips. Each result has the size of its source.

    PATH is an image, a clip, a folder (including its subfolders) or a quoted pattern such as 'photos/**/*.png'. Without
    --output, the results for photos/ go to photos_translated/ beside it, and the result for a.png to
    a_translated.png.

    A model whose input is a mask or a label map reads it as the file stores it: a palette gives its indices, and the
    values are never taken for brightness.

    Results that are up to date are skipped, so you can continue an interrupted run with the same command. A result is
    made again if its source, the model or an option has changed since. The file .gankit.jsonl beside the results
    records how each was made. Files that gankit did not make are kept, unless you add --overwrite.

    Exit status: 0 if all images were translated, 1 if some failed, 2 for a usage error.
    """
    stated = {} if source_kind is None else {"input_kind": source_kind}
    return run(partial(Translator, model, direction=direction, norm=norm, **stated), **options)
