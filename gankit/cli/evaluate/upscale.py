"""``gankit evaluate upscale``: figures over a benchmark, bicubic beside them, and an image to look at."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gankit.cli.evaluate.common import (
    FILE,
    MODELS,
    PLACE,
    BoxType,
    check_models,
    engine_options,
    found,
    lpips_option,
    prepare_files,
    write_json,
)
from gankit.datasets.conditions import CONDITION_NAMES
from gankit.weights import DEFAULT_UPSCALER

if TYPE_CHECKING:
    import numpy as np
    from rich.table import Table as RichTable

    from gankit.evaluation import Score, Table
    from gankit.evaluation.benchmark import Upscale


@click.command()
@click.option(
    "--model", "models", help=f"Model or weights file; can be repeated.  [default: {DEFAULT_UPSCALER}]", **MODELS
)
@click.option(
    "--strength",
    "strengths",
    type=click.FloatRange(0, 1),
    multiple=True,
    metavar="0..1",
    help="Measure each model between its faithful weights (0) and its sharp ones (1), as `gankit upscale --strength` "
    "mixes them; can be repeated.",
)
@click.option(
    "--faithful", metavar="NAME|FILE", help="Weights that --strength 0 stands for.  [default: srresnet for srgan]"
)
@click.option("--data", type=PLACE, help="Benchmark folder with the folders HR and LR in it.")
@click.option("--hr", type=PLACE, help="Folder of the true images; give it with --lr instead of --data.")
@click.option(
    "--lr",
    type=PLACE,
    help="Folder of the small images, with the same names.  [default: the true images, reduced by bicubic]",
)
@click.option(
    "--condition",
    "conditions",
    type=click.Choice([*CONDITION_NAMES, "all"]),
    multiple=True,
    help="What is done to the small images first: JPEG (q), noise, or both; can be repeated.  [default: clean]",
)
@click.option(
    "--border",
    type=click.IntRange(min=0),
    help="Pixels that are cut from each side before measuring.  [default: the scale]",
)
@lpips_option
@engine_options
@click.option(
    "--comparison", type=FILE, help="Write an image that shows input, bicubic, every model and truth side by side."
)
@click.option(
    "--crop", type=BoxType(), help="Part that the comparison shows, in pixels of the true image.  [default: the middle]"
)
@click.option("--image", help="Name of the image that the comparison shows.  [default: the first]")
def upscale(
    models: tuple[str, ...],
    strengths: tuple[float, ...],
    faithful: str | None,
    data: Path | None,
    hr: Path | None,
    lr: Path | None,
    conditions: tuple[Any, ...],
    border: int | None,
    lpips: Any,
    backend: str,
    precision: str,
    device: str,
    max_memory: int | None,
    model_options: dict[str, Any],
    json_file: Path | None,
    comparison: Path | None,
    crop: tuple[int, int, int, int] | None,
    image: str | None,
) -> None:
    """Measure models against true images: PSNR and SSIM on Y, as the papers' tables do.

    gankit evaluate --model srresnet --model srgan --data benchmarks/Set5/x4

    If the --data folder does not exist, it is looked for below the folder that the environment variable GANKIT_DATA
    names. With --condition, the table has a row for each condition instead of one for each image:

    gankit evaluate --model srresnet --model edsr-photo --hr kodak24/ --condition all
    """
    import gankit
    from gankit.evaluation import bicubic, evaluate_pairs, find_scale
    from gankit.images import encode, from_array

    if comparison is None and (crop or image):
        raise click.UsageError("--crop and --image need --comparison")
    check_models(models)
    hr_dir, lr_dir = _folders(data, hr, lr)
    names = CONDITION_NAMES if "all" in conditions else tuple(dict.fromkeys(conditions)) or ("clean",)
    prepare_files(json=json_file, comparison=comparison)
    distance = None
    if lpips is not None:
        from gankit.evaluation.perceptual import Lpips

        distance = Lpips(lpips)
    loaded = {
        model if strength is None else f"{model} {strength:g}": gankit.Upscaler(
            model,
            strength=strength,
            faithful=faithful,
            backend=backend,
            precision=precision,
            device=device,
            max_memory=max_memory,
            options=model_options or None,
        )
        for model in models or (DEFAULT_UPSCALER,)
        for strength in strengths or (None,)
    }
    scale = next(iter(loaded.values())).facts.scale if lr_dir is None else find_scale(hr_dir, lr_dir)
    upscalers: dict[str, Upscale] = {"bicubic": bicubic(scale), **loaded}
    tables = {
        name: {
            label: evaluate_pairs(upscaler, hr_dir, lr_dir, scale, border, distance, name)
            for label, upscaler in upscalers.items()
        }
        for name in names
    }

    from rich.console import Console

    console = Console()
    caption = f"{hr_dir}, backend {backend}, precision {precision}"
    console.print(_by_condition(tables, caption) if conditions else _rich_table(tables["clean"], caption))
    figures = {name: {label: each.as_dict() for label, each in table.items()} for name, table in tables.items()}
    # The folders as they were named: where they lie on this machine is private.
    report = {"data": str(data)} if data else {"hr": str(hr)} | ({"lr": str(lr)} if lr else {})
    report |= {"backend": backend, "precision": precision} | ({"lpips": lpips} if lpips else {})
    write_json(json_file, {**report, **({"conditions": figures} if conditions else {"results": figures["clean"]})})
    if comparison is not None:
        del upscalers["bicubic"]
        encode(from_array(_compare(upscalers, hr_dir, lr_dir, scale, crop, image)), comparison)
        console.print(f"wrote {comparison}")


def _folders(data: Path | None, hr: Path | None, lr: Path | None) -> tuple[Path, Path | None]:
    if data is None:
        if hr is None:
            raise click.UsageError("give --data DIR, or --hr DIR with or without --lr DIR")
        return found(hr), found(lr) if lr else None
    if hr is not None or lr is not None:
        raise click.UsageError("--data already names both folders: omit --hr and --lr")
    data = found(data)
    return data / "HR", data / "LR"


def _compare(
    upscalers: dict[str, Upscale],
    hr_dir: Path,
    lr_dir: Path | None,
    scale: int,
    crop: tuple[int, int, int, int] | None,
    image: str | None,
) -> np.ndarray:
    import numpy as np

    from gankit.errors import UsageError
    from gankit.evaluation import compare_upscalers
    from gankit.evaluation.benchmark import each_pair

    names: list[str] = []
    for name, large, small in each_pair(hr_dir, lr_dir, scale):
        names.append(name)
        if image in (None, name):
            try:
                return np.asarray(compare_upscalers(small, upscalers, scale, large, crop))
            except ValueError as error:
                raise UsageError(f"--crop: {error}") from error
    raise UsageError(f"--image {image}: not in {hr_dir}; it has {', '.join(names)}")


def _rich_table(tables: dict[str, Table], caption: str) -> RichTable:
    from rich.table import Table as RichTable

    first = next(iter(tables.values()))
    what = "PSNR Y (dB) / SSIM Y" + ("" if first.mean.lpips is None else " / LPIPS")
    title = f"{what}, ×{first.scale}, border {first.border}, n = {len(first.scores)}, resize none"
    table = RichTable(title=title, caption=caption)
    table.add_column("image")
    for label in tables:
        table.add_column(label, justify="right")
    for row in zip(*(each.scores for each in tables.values()), strict=True):
        table.add_row(row[0].name, *map(_words, row))
    table.add_section()
    table.add_row("mean", *(_words(each.mean) for each in tables.values()), style="bold")
    return table


def _by_condition(tables: dict[Any, dict[str, Table]], caption: str) -> RichTable:
    """The means, with a row for each condition."""
    from rich.table import Table as RichTable

    first = next(iter(next(iter(tables.values())).values()))
    title = f"mean PSNR Y (dB) / SSIM Y, ×{first.scale}, border {first.border}, n = {len(first.scores)}, resize none"
    table = RichTable(title=title, caption=caption)
    table.add_column("condition")
    for label in next(iter(tables.values())):
        table.add_column(label, justify="right")
    for name, row in tables.items():
        table.add_row(name, *(_words(each.mean) for each in row.values()))
    return table


def _words(score: Score) -> str:
    lpips = "" if score.lpips is None else f" / {score.lpips:.4f}"
    return f"{score.psnr_y:.2f} / {score.ssim_y:.4f}{lpips}"
