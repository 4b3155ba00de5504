"""``gankit convert``: convert a weights file to a safetensors file that records its model and options."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from gankit.cli.model_options import model_option
from gankit.errors import OutputError, UsageError
from gankit.pipeline.paths import exists


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    help="File to write.  [default: FILE with the extension .safetensors]",
)
@click.option(
    "--dtype",
    type=click.Choice(["fp32", "fp16"]),
    default="fp32",
    show_default=True,
    help="Data type of the stored kernels: fp32 keeps every bit, fp16 halves the file size.",
)
@click.option(
    "--direction", type=click.Choice(["AtoB", "BtoA"]), help="Generator to keep, if FILE holds a pair (CycleGAN)."
)
@model_option
@click.option("--overwrite", is_flag=True, help="Replace the output file if it exists.")
def convert(
    file: Path, output: Path | None, dtype: str, direction: Any, model_options: dict[str, Any], overwrite: bool
) -> None:
    """Convert the weights in FILE to safetensors.

    FILE may have any layout that gankit recognises. The new file records the model and its options, and omits
    optimisers, discriminators and other networks.
    """
    target = output or file.with_suffix(".safetensors")
    if exists(target) and not overwrite:
        raise OutputError(f"{target}: already exists; use --overwrite or another --output")
    import torch

    from gankit import models
    from gankit.checkpoints import open_model, save
    from gankit.checkpoints.native import input_header

    loaded = open_model(file, direction=direction, options=model_options)
    if loaded.facts.name not in models.MODELS:
        raise UsageError(f"{file}: {loaded.facts.paper}: only gankit's own networks can be converted")
    kinds = {"fp32": torch.float32, "fp16": torch.float16}
    sha256 = save(
        target,
        loaded.generator.state_dict(),
        loaded.facts.name,
        loaded.facts.options,
        dtype=kinds[dtype],
        metadata=input_header(loaded.facts)
        | {"from": file.name.encode("utf-8", "backslashreplace").decode(), "from_sha256": loaded.sha256},
    )
    options = ", ".join(f"{name} {value}" for name, value in loaded.facts.options.items())
    click.echo(f"{target}: {loaded.facts.name} ({options}), sha256 {sha256[:16]}…")
