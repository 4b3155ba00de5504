"""``gankit export``: write a model in a format of another runtime with a manifest, and measure its parity."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, get_args

import click
from gankit_export.formats import FORMATS, IN_OUT, Format, InOut
from gankit_export.precisions import Precision

from gankit.checkpoints.strength import at_strength
from gankit.cli.export_int8 import export_int8
from gankit.cli.model_options import model_option
from gankit.cli.progress import BuildBar
from gankit.cli.strength_options import strength_options
from gankit.errors import UsageError
from gankit.pipeline.exporting import LEAST_DB, ExportParityError
from gankit.pipeline.exporting import export as write

if TYPE_CHECKING:
    from pathlib import Path

    from gankit_export.manifest import Manifest
    from gankit_export.tritonserver import ServerBackend, Serving

    from gankit.models.facts import AtTest, Direction


@click.command()
@click.option(
    "--model", required=True, metavar="NAME|FILE", help="Name of a model (see `gankit models`), or a weights file."
)
@click.option(
    "--precision",
    type=click.Choice(["fp32", "bf16", "fp16"]),
    help="Arithmetic precision of the exported model.  [default: fp32]",
)
@click.option("--fp32", "shorthands", flag_value="fp32", multiple=True, help="Same as --precision fp32.")
@click.option("--bf16", "shorthands", flag_value="bf16", multiple=True, help="Same as --precision bf16.")
@click.option("--fp16", "shorthands", flag_value="fp16", multiple=True, help="Same as --precision fp16.")
@click.option(
    "--int8",
    is_flag=True,
    help="Quantise the convolutions to int8 by NNCF, for --format onnx (Q/DQ nodes), openvino or tensorrt. The layers "
    "that stay in fp32 are found by measurement. Needs the extra `int8`.",
)
@click.option(
    "--calibration",
    metavar="DIR",
    help="Folder of images like those that an int8 model will get.  [default: an image that ships with gankit]",
)
@click.option(
    "--output", metavar="FILE|DIR", help="File or folder to write to.  [default: a name such as srgan_x4_fp32.onnx]"
)
@click.option(
    "--format",
    "kind",
    type=click.Choice([*FORMATS]),
    default="onnx",
    show_default=True,
    help="File format. A TensorRT engine runs on this kind of GPU with this version of TensorRT, and an AOTInductor "
    "package on processors with the instructions of this one with this version of torch. tritonserver writes a model "
    "repository of the Triton Inference Server.",
)
@click.option(
    "--io",
    "in_out",
    type=click.Choice([*IN_OUT]),
    default="float32",
    show_default=True,
    help="What the file takes and gives: float32 values of the model, NCHW, or uint8 pixels, NHWC, with scaling, clamp "
    "and rounding inside.",
)
@click.option("--opset", type=click.IntRange(18, 23), help="ONNX opset version.  [default: 18, or 23 for bf16]")
@click.option(
    "--shapes",
    metavar="NxHxW",
    help="Shapes of a TensorRT engine: batch, height and width, or the smallest, the best and the largest shape with "
    "commas between them, such as 1x64x64,1x256x256,4x512x512.  [default: 1x256x256]  An AOTInductor package takes one "
    "shape.  [default: any shape]",
)
@click.option(
    "--device",
    metavar="DEVICE",
    help="Device for which a TensorRT engine or an AOTInductor package is made, or on which the Triton Inference "
    "Server runs: cpu, cuda or cuda:N.  [default: cuda; cpu for aoti]",
)
@click.option(
    "--server-backend",
    type=click.Choice(["onnxruntime", "tensorrt"]),
    help="What runs the model in the Triton Inference Server.  [default: onnxruntime]",
)
@click.option(
    "--max-batch",
    type=click.IntRange(1, 1024),
    help="Largest batch to which the Triton Inference Server joins requests.  [default: 8]",
)
@click.option(
    "--instances",
    type=click.IntRange(1, 64),
    help="Copies of the model that the Triton Inference Server runs side by side.  [default: 1]",
)
@click.option(
    "--parity-images",
    multiple=True,
    metavar="PATH",
    help="Image for the parity check. Can be repeated.  [default: an image that ships with gankit]",
)
@click.option(
    "--threshold",
    type=click.FloatRange(min=LEAST_DB),
    help="Lowest accepted parity with fp32, as PSNR in dB.  [default: depends on the precision]",
)
@click.option(
    "--direction",
    type=click.Choice(["AtoB", "BtoA"]),
    help="Generator to export, if the weights file holds a pair (CycleGAN).",
)
@click.option(
    "--norm",
    type=click.Choice(["instance", "eval"]),
    help="Statistics that BatchNorm uses: those of the image (instance) or the running ones (eval).  [default: as in "
    "the model's paper]",
)
@model_option
@strength_options
@click.option("--overwrite", is_flag=True, help="Replace the file if it exists.")
def export(
    model: str,
    precision: str | None,
    shorthands: tuple[str, ...],
    int8: bool,
    calibration: str | None,
    output: str | None,
    kind: Format,
    in_out: InOut,
    opset: int | None,
    shapes: str | None,
    device: str | None,
    server_backend: ServerBackend | None,
    max_batch: int | None,
    instances: int | None,
    parity_images: tuple[str, ...],
    threshold: float | None,
    direction: Direction | None,
    norm: AtTest | None,
    model_options: dict[str, Any],
    strength: float | None,
    faithful: str | None,
    overwrite: bool,
) -> None:
    """Export a model for another runtime and check its parity with fp32.

    In the file, batch size, height and width stay dynamic, but for a TensorRT engine, which takes the shapes that
    --shapes names. The height and width of an input must be multiples of the model's size multiple. The parity check
    runs the file and compares it with the fp32 model on real images, or on seeded latents if the model generates from
    noise.

    Exit status: 0 if the file was written, 1 if it failed the parity check and was deleted, 2 for a usage error.
    """
    model = str(at_strength(model, strength, faithful))
    if int8:
        if precision or shorthands or parity_images or in_out != "float32":
            raise UsageError("--int8 is a precision of its own, and measures on its own images: omit the other "
                             "precisions, --parity-images and --io")  # fmt: skip
        own = direction, norm, model_options, kind, shapes, device
        export_int8(model, output, calibration, threshold, opset, overwrite, *own)
        return
    if calibration:
        raise UsageError("--calibration sets the ranges of int8; add --int8")
    try:
        with BuildBar() as bar:
            done = write(
                model,
                output,
                kind=kind,
                precision=_precision(precision, shorthands),
                opset=opset,
                threshold=threshold,
                parity_images=parity_images,
                overwrite=overwrite,
                direction=direction,
                norm=norm,
                options=model_options,
                in_out=in_out,
                shapes=shapes,
                device=device,
                serving=_serving(server_backend, max_batch, instances),
                progress=bar.update,
            )
    except ExportParityError as error:
        _show(error.manifest)
        raise
    _show(done.manifest)
    size = sum(item.stat().st_size for item in _files(done.path, done.manifest))
    click.echo(f"{done.path}  {size / 1e6:.1f} MB")


def _files(path: Path, manifest: Manifest) -> list[Path]:
    """List the files of an artefact without its manifest."""
    if path.is_dir():
        return [item for item in path.rglob("*") if item.is_file()]
    return [path, *(path.with_name(name) for name in manifest.files)]


def _serving(backend: ServerBackend | None, max_batch: int | None, instances: int | None) -> Serving | None:
    """Return how the Triton Inference Server runs the model; ``None`` if the user chose nothing."""
    chosen = {"backend": backend, "max_batch": max_batch, "instances": instances}
    given: dict[str, Any] = {name: value for name, value in chosen.items() if value is not None}
    if not given:
        return None
    from gankit_export.tritonserver import Serving

    return Serving(**given)


def _precision(given: str | None, shorthands: tuple[str, ...]) -> Precision:
    asked = {*shorthands, *([given] if given else [])}
    if len(asked) > 1:
        raise UsageError(f"--{' and --'.join(sorted(asked))} contradict each other; use one precision")
    (name,) = asked or {"fp32"}
    return next(item for item in get_args(Precision) if item == name)


def _show(manifest: Manifest) -> None:
    from rich.console import Console
    from rich.table import Table

    titles = {"onnxruntime": "ONNX Runtime", "openvino": "OpenVINO", "tensorrt": "TensorRT", "aoti": "AOTInductor"}
    table = Table(title=f"Parity with fp32 (threshold {manifest.threshold:g} dB)", title_justify="left")
    table.add_column("input")
    for title in (f"{titles.get(manifest.runtime, manifest.runtime)} dB", "max abs", f"torch {manifest.precision} dB"):
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
    opset = f"  opset {manifest.opset}" if manifest.opset else ""
    console.print(f"{manifest.model}{scale}  {manifest.precision}{opset}  {half} of {layers} {kinds} in half precision")
    if manifest.kind == "aoti":
        needs = manifest.engine
        console.print(f"torch {needs['torch']}  {needs['device']}  {needs['isa'] or needs['machine']}")
    if manifest.runtime == "tensorrt":
        half, layers = manifest.engine["half_layers"]
        machine = manifest.engine["machine"]
        console.print(f"TensorRT {machine['tensorrt']}  {machine['gpu']}  {half} of {layers} layers in half precision")
