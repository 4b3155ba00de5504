"""``gankit evaluate``: figures over a benchmark, bicubic beside them, and a picture to look at."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    import numpy as np
    from rich.table import Table as RichTable

    from gankit.evaluation import Table
    from gankit.evaluation.benchmark import Upscale


class BoxType(click.ParamType):
    """X,Y,W,H in pixels of the large picture."""

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


@click.command()
@click.option(
    "--model", "models", multiple=True, metavar="NAME|FILE", help="Model or weights file; repeatable.  [default: srgan]"
)
@click.option("--data", type=click.Path(path_type=Path), help="Benchmark folder that holds HR/ and LR/.")
@click.option("--hr", type=click.Path(path_type=Path), help="Folder of true pictures.")
@click.option("--lr", type=click.Path(path_type=Path), help="Folder of small pictures with the same names.")
@click.option("--border", type=click.IntRange(min=0), help="Pixels cut from each side.  [default: the scale]")
@click.option("--backend", default="eager", show_default=True, help="Backend that runs the models.")
@click.option("--precision", default="fp32", show_default=True, help="Precision of the models.")
@click.option("--device", default="auto", show_default=True, help="cpu, cuda, cuda:1, …")
@click.option("--json", "json_file", type=click.Path(path_type=Path, dir_okay=False), help="Write the figures there.")
@click.option(
    "--comparison", type=click.Path(path_type=Path, dir_okay=False), help="Write input | bicubic | … | truth."
)
@click.option(
    "--crop", type=BoxType(), help="Part of the comparison, in pixels of the large picture.  [default: the middle]"
)
@click.option("--picture", help="Name of the compared picture.  [default: the first]")
def evaluate(
    models: tuple[str, ...],
    data: Path | None,
    hr: Path | None,
    lr: Path | None,
    border: int | None,
    backend: str,
    precision: str,
    device: str,
    json_file: Path | None,
    comparison: Path | None,
    crop: tuple[int, int, int, int] | None,
    picture: str | None,
) -> None:
    """Measure models against true pictures: PSNR and SSIM on Y, as the papers' tables do.

    gankit evaluate --model srresnet --model srgan --data benchmarks/Set5/x4

    A --data folder that is not found here is looked for under the environment variable GANKIT_DATA.
    """
    import gankit
    from gankit.evaluation import bicubic, evaluate_pairs, find_scale
    from gankit.images import encode, from_array
    from gankit.pipeline.output import prepare, write_whole

    if comparison is None and (crop or picture):
        raise click.UsageError("--crop and --picture need --comparison")
    if len(set(models)) < len(models):
        raise click.UsageError("the same --model twice")
    hr_dir, lr_dir = _folders(data, hr, lr)
    scale = find_scale(hr_dir, lr_dir)
    for file in (json_file, comparison):
        if file is not None:
            prepare(file.parent)
    upscalers: dict[str, Upscale] = {"bicubic": bicubic(scale)}
    for model in models or ("srgan",):
        upscalers[model] = gankit.Upscaler(model, backend=backend, precision=precision, device=device)  # type: ignore[arg-type]
    tables = {label: evaluate_pairs(upscale, hr_dir, lr_dir, scale, border) for label, upscale in upscalers.items()}

    from rich.console import Console

    console = Console()
    console.print(_rich_table(tables, f"{hr_dir}, backend {backend}, precision {precision}"))
    if json_file is not None:
        figures = {label: table.as_dict() for label, table in tables.items()}
        # The folders as they were named: where they lie on this machine is nobody's business.
        named = {"data": str(data)} if data else {"hr": str(hr), "lr": str(lr)}
        report = {**named, "backend": backend, "precision": precision, "results": figures}
        write_whole(json_file, json.dumps(report, indent=2) + "\n")
    if comparison is not None:
        del upscalers["bicubic"]
        encode(from_array(_compare(upscalers, hr_dir, lr_dir, scale, crop, picture)), comparison)
        console.print(f"wrote {comparison}")


def _folders(data: Path | None, hr: Path | None, lr: Path | None) -> tuple[Path, Path]:
    if data is None:
        if hr is None or lr is None:
            raise click.UsageError("give --data DIR, or --hr DIR and --lr DIR")
        return hr, lr
    if hr is not None or lr is not None:
        raise click.UsageError("--data already names both folders: leave out --hr and --lr")
    elsewhere = os.environ.get("GANKIT_DATA")
    if elsewhere and not data.is_dir():
        data = Path(elsewhere) / data
    return data / "HR", data / "LR"


def _compare(
    upscalers: dict[str, Upscale],
    hr_dir: Path,
    lr_dir: Path,
    scale: int,
    crop: tuple[int, int, int, int] | None,
    picture: str | None,
) -> np.ndarray:
    import numpy as np

    from gankit.errors import UsageError
    from gankit.evaluation import compare_upscalers
    from gankit.evaluation.benchmark import find_pairs, read_pair

    pairs = {pair.name: pair for pair in find_pairs(hr_dir, lr_dir, scale)}
    name = picture or next(iter(pairs))
    if name not in pairs:
        raise UsageError(f"--picture {name}: not in {hr_dir}; it has {', '.join(pairs)}")
    large, small = read_pair(pairs[name], scale)
    try:
        return np.asarray(compare_upscalers(small, upscalers, scale, large, crop))
    except ValueError as error:
        raise UsageError(f"--crop: {error}") from error


def _rich_table(tables: dict[str, Table], caption: str) -> RichTable:
    from rich.table import Table as RichTable

    first = next(iter(tables.values()))
    title = f"PSNR Y (dB) / SSIM Y, ×{first.scale}, border {first.border}, n = {len(first.scores)}"
    sheet = RichTable(title=title, caption=caption)
    sheet.add_column("picture")
    for label in tables:
        sheet.add_column(label, justify="right")
    for row in zip(*(table.scores for table in tables.values()), strict=True):
        sheet.add_row(row[0].name, *(f"{score.psnr_y:.2f} / {score.ssim_y:.4f}" for score in row))
    sheet.add_section()
    means = [table.mean for table in tables.values()]
    sheet.add_row("mean", *(f"{score.psnr_y:.2f} / {score.ssim_y:.4f}" for score in means), style="bold")
    return sheet
