"""``gankit translate``: images through an image-to-image generator, at their own size."""

from __future__ import annotations

import re
from functools import partial
from typing import Any

import click

from gankit.cli.images import image_options, run
from gankit.pipeline.translator import Translator


class _Size(click.ParamType):
    """Bytes: a number with MB, GB, MiB or GiB."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([MG])(i?)B?", str(value), re.IGNORECASE)
        size = 0.0
        if found:
            power = {"m": 2, "g": 3}[found[2].lower()]
            size = float(found[1]) * (1024 if found[3] else 1000) ** power
        if size < 1:
            self.fail(f"'{value}' is no size such as 500MB or 2GiB", param, ctx)
        return int(size)


@click.command()
@image_options
@click.option("-m", "--model", required=True, help="A weights file, or a name of `gankit models`.")
@click.option(
    "--direction", type=click.Choice(["AtoB", "BtoA"]), help="Of a pair of generators (CycleGAN), the one to run."
)
@click.option(
    "--max-memory", type=_Size(), help="Such as 2GB: larger images run in strips.  [default: half of what is free]"
)
@click.option(
    "--norm",
    type=click.Choice(["instance", "eval"]),
    help="BatchNorm by the image's statistics or the running ones.  [default: as the model's paper]",
)
def translate(model: str, direction: Any, max_memory: int | None, norm: Any, **options: Any) -> int:
    """Translate images into a folder: any size in, the same size out.

    PATH is a file, a folder (with all below it, mirrored) or a quoted pattern such as 'photos/**/*.png'.
    What is in the output folder already is skipped, so that an interrupted run can be started again.

    Exit status: 0 all done, 1 some images failed, 2 wrong use.
    """
    return run(partial(Translator, model, direction=direction, max_memory=max_memory, norm=norm), **options)
