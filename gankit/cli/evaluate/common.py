"""What the commands of ``gankit evaluate`` share: options, and where the figures go."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from gankit.cli.engine_options import max_memory_option
from gankit.cli.folders import leave_no_empty_folders
from gankit.cli.model_options import model_option
from gankit.pipeline.output import prepare, write_whole
from gankit.pipeline.paths import exists

Command = TypeVar("Command", bound=Callable[..., Any])
FILE = click.Path(path_type=Path, dir_okay=False)
PLACE = click.Path(path_type=Path)
MODELS: dict[str, Any] = {"multiple": True, "metavar": "NAME|FILE"}
_BACKBONES = ("alex", "vgg", "squeeze")


class BoxType(click.ParamType):  # type: ignore[type-arg]
    """X,Y,W,H in pixels of the large image."""

    name = "X,Y,W,H"

    def convert(
        self, value: str | tuple[int, int, int, int], param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, int, int, int]:
        """Four integers from text."""
        if isinstance(value, tuple):
            return value
        try:
            x, y, width, height = (int(part) for part in value.split(","))
        except ValueError:
            self.fail(f"'{value}' is not four whole numbers X,Y,W,H", param, ctx)
        return x, y, width, height


def engine_options(command: Command) -> Command:
    """``--backend``, ``--precision``, ``--device``, ``--max-memory``, ``--model-option`` and ``--json``."""
    for option in (
        click.option("--json", "json_file", type=FILE, help="Write the figures to this file, as JSON."),
        model_option,
        max_memory_option,
        click.option(
            "--device", default="auto", show_default=True, help="Device that runs the models: cpu, cuda, cuda:1, …"
        ),
        click.option("--precision", default="fp32", show_default=True, help="Precision of the models."),
        click.option("--backend", default="eager", show_default=True, help="Backend that runs the models."),
    ):
        command = option(command)
    return command


def lpips_option(command: Command) -> Command:
    """``--lpips``, the name of a backbone."""
    return click.option(
        "--lpips",
        type=click.Choice(_BACKBONES),
        help="Also measure the perceptual distance LPIPS, in the features of this network.",
    )(command)


def check_models(models: tuple[str, ...]) -> None:
    """Refuse the same model twice: both would have the same row of the table."""
    if len(set(models)) < len(models):
        raise click.UsageError("--model names the same model twice: give each model once")


def found(path: Path) -> Path:
    """The path; if nothing is there, the same path below the folder that GANKIT_DATA names, if it exists."""
    elsewhere = os.environ.get("GANKIT_DATA")
    if elsewhere and not exists(path) and exists(Path(elsewhere) / path):
        return Path(elsewhere) / path
    return path


def prepare_files(**files: Path | None) -> None:
    """See that the files can be written, before any work is done; a command that is refused leaves no empty folder.

    Args:
        files: by the name of their option.
    """
    for option, file in files.items():
        if file is not None:
            leave_no_empty_folders(file.parent)
            prepare(file.parent, f"--{option}")


def write_json(file: Path | None, report: dict[str, Any]) -> None:
    """Write a report, if it has a file."""
    if file is not None:
        write_whole(file, json.dumps(report, indent=2, ensure_ascii=False) + "\n")
