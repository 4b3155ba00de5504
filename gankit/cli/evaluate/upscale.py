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

if TYPE_CHECKING:
    import numpy as np
    from rich.table import Table as RichTable

    from gankit.evaluation import Score, Table
    from gankit.evaluation.benchmark import Upscale


@click.command()
@click.option("--model", "models", help="Model or weights file; can be repeated.  [default: srgan]", **MODELS)
@click.option("--data", type=PLACE, help="Benchmark folder with the folders HR and LR in it.")
@click.option("--hr", type=PLACE, help="Folder of the true images; give it with --lr instead of --data.")
@click.option("--lr", type=PLACE, help="Folder of the small images, with the same names.")
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
    data: Path | None,
    hr: Path | None,
    lr: Path | None,
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
    names.
    """
    import gankit
    from gankit.evaluation import bicubic, evaluate_pairs, find_scale
    from gankit.images import encode, from_array

    if comparison is None and (crop or image):
        raise click.UsageError("--crop and --image need --comparison")
    check_models(models)
    hr_dir, lr_dir = _folders(data, hr, lr)
    scale = find_scale(hr_dir, lr_dir)
    prepare_files(json=json_file, comparison=comparison)
    distance = None
    if lpips is not None:
        from gankit.evaluation.perceptual import Lpips

        distance = Lpips(lpips)
    upscalers: dict[str, Upscale] = {"bicubic": bicubic(scale)}
    for model in models or ("srgan",):
        upscalers[model] = gankit.Upscaler(
            model,
            backend=backend,
            precision=precision,
            device=device,
            max_memory=max_memory,
            options=model_options or None,
        )
    tables = {
        label: evaluate_pairs(upscaler, hr_dir, lr_dir, scale, border, distance)
        for label, upscaler in upscalers.items()
    }

    from rich.console import Console

    console = Console()
    console.print(_rich_table(tables, f"{hr_dir}, backend {backend}, precision {precision}"))
    figures = {label: table.as_dict() for label, table in tables.items()}
    # The folders as they were named: where they lie on this machine is private.
    report = {"data": str(data)} if data else {"hr": str(hr), "lr": str(lr)}
    report |= {"backend": backend, "precision": precision} | ({"lpips": lpips} if lpips else {})
    write_json(json_file, {**report, "results": figures})
    if comparison is not None:
        del upscalers["bicubic"]
        encode(from_array(_compare(upscalers, hr_dir, lr_dir, scale, crop, image)), comparison)
        console.print(f"wrote {comparison}")


def _folders(data: Path | None, hr: Path | None, lr: Path | None) -> tuple[Path, Path]:
    if data is None:
        if hr is None or lr is None:
            raise click.UsageError("give --data DIR, or --hr DIR and --lr DIR")
        return hr, lr
    if hr is not None or lr is not None:
        raise click.UsageError("--data already names both folders: omit --hr and --lr")
    data = found(data)
    return data / "HR", data / "LR"


def _compare(
    upscalers: dict[str, Upscale],
    hr_dir: Path,
    lr_dir: Path,
    scale: int,
    crop: tuple[int, int, int, int] | None,
    image: str | None,
) -> np.ndarray:
    import numpy as np

    from gankit.errors import UsageError
    from gankit.evaluation import compare_upscalers
    from gankit.evaluation.benchmark import find_pairs, read_pair

    pairs = {pair.name: pair for pair in find_pairs(hr_dir, lr_dir, scale)}
    name = image or next(iter(pairs))
    if name not in pairs:
        raise UsageError(f"--image {name}: not in {hr_dir}; it has {', '.join(pairs)}")
    large, small = read_pair(pairs[name], scale)
    try:
        return np.asarray(compare_upscalers(small, upscalers, scale, large, crop))
    except ValueError as error:
        raise UsageError(f"--crop: {error}") from error


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


def _words(score: Score) -> str:
    lpips = "" if score.lpips is None else f" / {score.lpips:.4f}"
    return f"{score.psnr_y:.2f} / {score.ssim_y:.4f}{lpips}"
