"""``gankit export --int8``: what it prints."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from gankit.cli.progress import BuildBar
from gankit.pipeline import quantising

if TYPE_CHECKING:
    from gankit_export.formats import Format
    from gankit_export.manifest import Manifest

    from gankit.models.facts import AtTest, Direction


def export_int8(
    model: str,
    output: str | None,
    calibration: str | None,
    threshold: float | None,
    opset: int | None,
    overwrite: bool,
    direction: Direction | None,
    norm: AtTest | None,
    options: Mapping[str, Any],
    kind: Format = "onnx",
    shapes: str | None = None,
    device: str | None = None,
) -> None:
    """Export an int8 file, and print each attempt and the table of the parity; see :func:`quantising.export_int8`."""
    with BuildBar() as bar:
        done = quantising.export_int8(
            model,
            output,
            kind=kind,
            shapes=shapes,
            device=device,
            progress=bar.update,
            calibration=calibration,
            threshold=threshold,
            opset=opset,
            overwrite=overwrite,
            direction=direction,
            norm=norm,
            options=options,
            notify=lambda line: click.echo(line, err=True),
        )
    _show(done.manifest)
    files = [done.path, *(done.path.with_name(name) for name in done.manifest.files)]
    click.echo(f"{done.path}  {sum(item.stat().st_size for item in files) / 1e6:.1f} MB")


def _show(manifest: Manifest) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"Parity with fp32 (threshold {manifest.threshold:g} dB)", title_justify="left")
    runtime = "TensorRT" if manifest.runtime == "tensorrt" else "OpenVINO"
    for name in ("input", f"{runtime} dB", "max abs"):
        table.add_column(name, justify="left" if name == "input" else "right")
    for item in manifest.parity:
        table.add_row(item.title, f"{item.psnr:.1f}", f"{item.max_abs:.1e}")
    console = Console(highlight=False)
    console.print(table)
    facts = manifest.quantised
    count, every = facts["convolutions"]
    kept = f"{' and '.join(facts['kept_fp32'])} in fp32" if facts["kept_fp32"] else "no other layer kept in fp32"
    console.print(f"{count} of {every} convolutions in int8, {kept}; {facts['estimator']}")
    if manifest.runtime == "tensorrt":
        count, every = facts["layers"]
        console.print(f"{count} of {every} layers of the engine read int8")
    loss = facts["benchmark_loss_db"]
    lost = "Set5 was not measured (set GANKIT_DATA)" if loss is None else f"Set5 loses {loss:.2f} dB"
    console.print(f"{lost}; {facts['speed_up']:g} times the speed of fp32 in OpenVINO here")
