"""``gankit export``: a model as an ONNX file with a manifest, and proof that its images are right."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import click

from gankit.cli.model_options import model_option
from gankit.errors import BackendError, CheckpointError, OutputError, ParityError, UsageError

if TYPE_CHECKING:
    import numpy as np
    from gankit_export.artefact import Source
    from gankit_export.manifest import Manifest
    from gankit_export.precision import Precision

    from gankit.checkpoints import Loaded
    from gankit.models.facts import AtTest, Direction

_LOWEST = 45.0  # dB; below it images differ visibly, so nobody may ask for less


@click.command()
@click.option("--model", required=True, metavar="NAME|FILE", help="A model's name, or a weights file.")
@click.option("--precision", type=click.Choice(["fp32", "bf16", "fp16"]), help="Arithmetic.  [default: fp32]")
@click.option("--fp32", "shorthands", flag_value="fp32", multiple=True, help="Short for --precision fp32.")
@click.option("--bf16", "shorthands", flag_value="bf16", multiple=True, help="Short for --precision bf16.")
@click.option("--fp16", "shorthands", flag_value="fp16", multiple=True, help="Short for --precision fp16.")
@click.option("--output", metavar="FILE|DIR", help="Where to write.  [default: ./MODEL_PRECISION.onnx]")
@click.option("--format", "kind", type=click.Choice(["onnx"]), default="onnx", show_default=True, help="Kind of file.")
@click.option("--opset", type=click.IntRange(18, 23), help="ONNX opset.  [default: 18; bf16: 23]")
@click.option("--parity-images", multiple=True, metavar="PATH", help="Images to measure on; can be repeated.")
@click.option("--threshold", type=click.FloatRange(min=_LOWEST), help="dB to reach.  [default: by precision]")
@click.option("--direction", type=click.Choice(["AtoB", "BtoA"]), help="Of a pair of generators, the one to export.")
@click.option(
    "--norm",
    type=click.Choice(["instance", "eval"]),
    help="BatchNorm by the image's statistics or the running ones.  [default: as the model's paper]",
)
@model_option
@click.option("--overwrite", is_flag=True, help="Replace the file if it is there.")
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
    """Write a model as ONNX, and measure it against fp32.

    Batch, height and width are dynamic, the latter in the network's multiples, and it is measured on real images. A
    model that generates has a dynamic batch and is measured on seeded latents.

    A file that is too far from the fp32 model is not kept, and the command exits with status 1.
    """
    chosen = _precision(precision, shorthands)
    if chosen == "bf16" and opset is not None and opset < 22:
        raise UsageError(f"--opset {opset}: bf16 convolutions need opset 22 or more")
    from gankit_export.artefact import ParityFailedError, make_latent_onnx, make_onnx
    from gankit_export.onnx import ExportError
    from gankit_export.parity import samples
    from gankit_export.precision import RangeError

    from gankit.checkpoints import open_model

    loaded = open_model(model, direction=direction, norm=norm, options=model_options)
    facts = loaded.facts
    if facts.task == "generate" and parity_images:
        raise UsageError(f"'{model}' generates from noise and is measured on it: leave --parity-images out")
    if facts.task != "generate" and facts.channels not in (1, 3):
        raise UsageError(f"'{model}' takes {facts.channels} channels: it is measured on images, which have 1 or 3")
    if chosen not in facts.precisions:
        raise UsageError(f"'{model}' does not run in {chosen}: take --precision {' or '.join(facts.precisions)}")
    path = _output_path(output, _default_name(model, loaded, direction, chosen))
    try:
        str(path).encode()
    except UnicodeEncodeError:
        raise UsageError(f"{path}: ONNX takes no name that is not UTF-8: give another --output") from None
    if path.exists() and not overwrite:
        raise UsageError(f"{path}: is already there; --overwrite replaces it")
    try:
        if facts.task == "generate":
            manifest = make_latent_onnx(
                loaded.generator, _source(loaded), path, precision=chosen, opset=opset, threshold=threshold
            )
        else:
            images = _images(parity_images)
            batches = samples(
                [pixels for _, pixels in images],
                channels=facts.channels,
                multiple=facts.multiple,
                minimum=facts.minimum,
                value_range=facts.value_range,
            )
            manifest = make_onnx(
                loaded.generator,
                _source(loaded),
                path,
                batches,
                precision=chosen,
                opset=opset,
                threshold=threshold,
                images=[name for name, _ in images],
            )
    except ParityFailedError as error:
        _show(error.manifest)
        raise ParityError(f"{path}: not written: {error}; take another --precision") from error
    except (ExportError, RangeError) as error:
        raise BackendError(f"{model}: {error}") from error
    except ImportError as error:
        package = error.name or "onnxruntime"
        raise BackendError(f"{package} is needed and not installed: pip install {package}") from error
    except OSError as error:
        raise OutputError(f"{path}: cannot be written: {error.strerror or error}") from error
    _show(manifest)
    click.echo(f"{path}  {path.stat().st_size / 1e6:.1f} MB")


def _precision(given: str | None, shorthands: tuple[str, ...]) -> Precision:
    asked = {*shorthands, *([given] if given else [])}
    if len(asked) > 1:
        raise UsageError(f"--{' and --'.join(sorted(asked))} exclude each other: take one precision")
    from gankit_export.precision import Precision

    (name,) = asked or {"fp32"}
    return next(item for item in get_args(Precision) if item == name)


def _source(loaded: Loaded) -> Source:
    from gankit_export.artefact import Source

    from gankit import __version__

    facts = loaded.facts
    return Source(
        model=facts.name,
        weights=loaded.path.name,
        weights_sha256=loaded.sha256,
        options=facts.options,
        scale=facts.scale,
        channels=facts.channels,
        multiple=facts.multiple,
        value_range=facts.value_range,
        versions={"gankit": __version__},
        minimum=facts.minimum,
        latent=facts.latent,
        classes=facts.classes,
    )


def _default_name(model: str, loaded: Loaded, direction: Direction | None, precision: Precision) -> str:
    """``mine_x4_fp16.onnx``; without the scale where there is none, with the direction where one file has both."""
    given = Path(model)
    name = loaded.path.stem if given.is_file() and model != loaded.facts.name else loaded.facts.name
    scale = f"x{loaded.facts.scale}" if loaded.facts.task == "upscale" else ""
    side = direction if direction and loaded.path == given else ""
    return "_".join(part for part in (name, side, scale, precision) if part) + ".onnx"


def _output_path(output: str | None, default_name: str) -> Path:
    """A folder (there, or without a suffix) takes the default name."""
    if output is None:
        return Path(default_name)
    path = Path(output)
    if path.is_dir() or output.endswith("/") or not path.suffix:
        return path / default_name
    if path.suffix != ".onnx":
        raise UsageError(f"{path}: the file's name must end in .onnx")
    return path


def _images(paths: tuple[str, ...]) -> list[tuple[str, np.ndarray]]:
    """File name and pixels of the user's images, or of the one that ships."""
    from importlib.resources import as_file, files

    from gankit.images import decode

    if paths:
        return [(Path(path).name, decode(Path(path)).pixels) for path in paths]
    with as_file(files("gankit.weights") / "parity.png") as shipped:
        if not shipped.is_file():
            raise CheckpointError(f"{shipped}: is missing: reinstall gankit, or give --parity-images")
        return [(shipped.name, decode(shipped).pixels)]


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
