"""``gankit export``: a model as an ONNX file with a manifest, and proof that its images are right."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, get_args

import click
from gankit_export.precisions import Precision

from gankit.cli.model_options import model_option
from gankit.errors import UsageError
from gankit.pipeline.exporting import LEAST_DB, ExportParityError
from gankit.pipeline.exporting import export as write

if TYPE_CHECKING:
    from gankit_export.manifest import Manifest

    from gankit.models.facts import AtTest, Direction


@click.command()
@click.option(
    "--model", required=True, metavar="NAME|FILE", help="A name that `gankit models` lists, or a weights file."
)
@click.option(
    "--precision", type=click.Choice(["fp32", "bf16", "fp16"]), help="Arithmetic of the file.  [default: fp32]"
)
@click.option("--fp32", "shorthands", flag_value="fp32", multiple=True, help="Short for --precision fp32.")
@click.option("--bf16", "shorthands", flag_value="bf16", multiple=True, help="Short for --precision bf16.")
@click.option("--fp16", "shorthands", flag_value="fp16", multiple=True, help="Short for --precision fp16.")
@click.option("--output", metavar="FILE|DIR", help="Where to write.  [default: ./MODEL_PRECISION.onnx]")
@click.option("--format", "kind", type=click.Choice(["onnx"]), default="onnx", show_default=True, help="Kind of file.")
@click.option("--opset", type=click.IntRange(18, 23), help="ONNX opset.  [default: 18; for bf16 23]")
@click.option(
    "--parity-images", multiple=True, metavar="PATH", help="Image to measure the file on; repeat it for more."
)
@click.option("--threshold", type=click.FloatRange(min=LEAST_DB), help="PSNR in dB to reach.  [default: by precision]")
@click.option(
    "--direction", type=click.Choice(["AtoB", "BtoA"]), help="Which generator of a pair (CycleGAN) to export."
)
@click.option(
    "--norm",
    type=click.Choice(["instance", "eval"]),
    help="Whether BatchNorm uses the statistics of the image or the running ones.  [default: as in the model's paper]",
)
@model_option
@click.option("--overwrite", is_flag=True, help="Replace the file if it exists.")
def export(
    model: str,
    precision: str | None,
    shorthands: tuple[str, ...],
    output: str | None,
    kind: str,
    opset: int | None,
    parity_images: tuple[str, ...],
    threshold: float | None,
    direction: Direction | None,
    norm: AtTest | None,
    model_options: dict[str, Any],
    overwrite: bool,
) -> None:
    """Write a model as ONNX and measure the file against fp32.

    Batch, height and width are dynamic, in the network's multiples, and the file is measured on real images. A model
    that generates has a dynamic batch and is measured on seeded latents.

    A file that is too far from the fp32 model is not kept, and the command exits with status 1.
    """
    try:
        done = write(
            model,
            output,
            precision=_precision(precision, shorthands),
            opset=opset,
            threshold=threshold,
            parity_images=parity_images,
            overwrite=overwrite,
            direction=direction,
            norm=norm,
            options=model_options,
        )
    except ExportParityError as error:
        _show(error.manifest)
        raise
    _show(done.manifest)
    click.echo(f"{done.path}  {done.path.stat().st_size / 1e6:.1f} MB")


def _precision(given: str | None, shorthands: tuple[str, ...]) -> Precision:
    asked = {*shorthands, *([given] if given else [])}
    if len(asked) > 1:
        raise UsageError(f"--{' and --'.join(sorted(asked))} exclude each other; give one precision")
    (name,) = asked or {"fp32"}
    return next(item for item in get_args(Precision) if item == name)


def _show(manifest: Manifest) -> None:
    from rich.console import Console
    from rich.table import Table

    titles = {"onnxruntime": "ONNX Runtime", "openvino": "OpenVINO"}
    table = Table(title=f"parity with fp32, at least {manifest.threshold:g} dB", title_justify="left")
    table.add_column("input")
    for title in (f"{titles[manifest.runtime]} dB", "max abs", f"torch {manifest.precision} dB"):
        table.add_column(title, justify="right")
    for item in manifest.parity:
        style = None if item.worst >= manifest.threshold else "red"
        figures = (f"{item.psnr:.1f}", f"{item.max_abs:.1e}", f"{item.eager_psnr:.1f}")
        table.add_row(item.title, *figures, style=style)
    console = Console(highlight=False)
    console.print(table)
    half, layers = manifest.half_convolutions
    scale = f" ×{manifest.scale}" if manifest.scale > 1 else ""
    kinds = "convolutions and matrix products" if manifest.takes == "latents" else "convolutions"
    console.print(
        f"{manifest.model}{scale}  {manifest.precision}  opset {manifest.opset}  "
        f"{half} of {layers} {kinds} in half precision"
    )
