"""``gankit export``: a model as an ONNX file with a manifest, and proof that its pictures are right."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, get_args

import click

from gankit.errors import BackendError, CheckpointError, OutputError, ParityError, UsageError

if TYPE_CHECKING:
    import numpy as np
    from gankit_export.manifest import Manifest
    from gankit_export.precision import Precision

_LOWEST = 45.0  # dB; below it pictures differ visibly, so nobody may ask for less


@click.command()
@click.option("--model", required=True, metavar="NAME|FILE", help="A model's name, or a weights file.")
@click.option("--precision", type=click.Choice(["fp32", "bf16", "fp16"]), help="Arithmetic.  [default: fp32]")
@click.option("--fp32", "shorthands", flag_value="fp32", multiple=True, help="Short for --precision fp32.")
@click.option("--bf16", "shorthands", flag_value="bf16", multiple=True, help="Short for --precision bf16.")
@click.option("--fp16", "shorthands", flag_value="fp16", multiple=True, help="Short for --precision fp16.")
@click.option("--output", metavar="FILE|DIR", help="Where to write.  [default: ./MODEL_xSCALE_PRECISION.onnx]")
@click.option("--format", "kind", type=click.Choice(["onnx"]), default="onnx", show_default=True, help="Kind of file.")
@click.option("--opset", type=click.IntRange(18, 23), help="ONNX opset.  [default: 18; bf16: 23]")
@click.option("--parity-images", multiple=True, metavar="PATH", help="Pictures to measure on; can be repeated.")
@click.option("--threshold", type=click.FloatRange(min=_LOWEST), help="dB to reach.  [default: by precision]")
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
    overwrite: bool,
) -> None:
    """Write a model as ONNX with dynamic batch, height and width, and measure it on real pictures.

    A file that is too far from the fp32 model is not kept, and the command exits with status 1.
    """
    chosen = _precision(precision, shorthands)
    if chosen == "bf16" and opset is not None and opset < 22:
        raise UsageError(f"--opset {opset}: bf16 convolutions need opset 22 or more")
    from gankit_export.artefact import ParityFailedError, Source, make_onnx
    from gankit_export.onnx import ExportError
    from gankit_export.parity import samples
    from gankit_export.precision import RangeError

    from gankit import __version__
    from gankit.checkpoints import open_model

    loaded = open_model(model)
    facts = loaded.facts
    if facts.task == "generate":
        raise UsageError(f"'{model}' generates from noise: this version exports models that take pictures")
    name = Path(model).stem if Path(model).is_file() and model != facts.name else facts.name
    path = _output_path(output, f"{name}_x{facts.scale}_{chosen}.onnx")
    if path.exists() and not overwrite:
        raise UsageError(f"{path}: is already there; --overwrite replaces it")
    pictures = _pictures(parity_images)
    batches = samples(
        [pixels for _, pixels in pictures],
        channels=facts.channels,
        multiple=facts.multiple,
        value_range=facts.value_range,
    )
    source = Source(
        model=facts.name,
        weights=loaded.path.name,
        weights_sha256=loaded.sha256,
        options=facts.options,
        scale=facts.scale,
        channels=facts.channels,
        multiple=facts.multiple,
        value_range=facts.value_range,
        versions={"gankit": __version__},
    )
    try:
        manifest = make_onnx(
            loaded.generator,
            source,
            path,
            batches,
            precision=chosen,
            opset=opset,
            threshold=threshold,
            pictures=[name for name, _ in pictures],
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


def _pictures(paths: tuple[str, ...]) -> list[tuple[str, np.ndarray]]:
    """File name and pixels of the user's pictures, or of the one that ships."""
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
        table.add_row(f"{item.shape[3]}×{item.shape[2]}", *figures, style=style)
    console = Console(highlight=False)
    console.print(table)
    half, convolutions = manifest.half_convolutions
    console.print(
        f"{manifest.model} ×{manifest.scale}  {manifest.precision}  opset {manifest.opset}  "
        f"{half} of {convolutions} convolutions in half precision"
    )
