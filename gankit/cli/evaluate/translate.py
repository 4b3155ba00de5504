"""``gankit evaluate translate``: translated images against true ones, or masks against true masks."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
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
from gankit.errors import UsageError

if TYPE_CHECKING:
    import numpy as np
    from rich.table import Table as RichTable

    import gankit
    from gankit.datasets.options import Kind
    from gankit.evaluation import TranslationScore, TranslationTable
    from gankit.evaluation.translation import Translate

    Pairs = dict[str, tuple[np.ndarray, np.ndarray]]

_FIGURES = {
    "dice": ("Dice", "{:.4f}"),
    "iou": ("IoU", "{:.4f}"),
    "l1": ("L1", "{:.4f}"),
    "psnr": ("PSNR (dB)", "{:.2f}"),
    "ssim_y": ("SSIM Y", "{:.4f}"),
    "lpips": ("LPIPS", "{:.4f}"),
}


@click.command()
@click.option("--model", "models", help="Model or weights file that translates the inputs; can be repeated.", **MODELS)
@click.option(
    "--results",
    multiple=True,
    type=PLACE,
    metavar="DIR",
    help="Folder of images that are already translated; can be repeated.",
)
@click.option("--data", type=PLACE, metavar="DIR", help="Folder of the input images.")
@click.option("--target", type=PLACE, metavar="DIR", help="Folder of the true images, with the same names.")
@click.option(
    "--aligned",
    type=PLACE,
    metavar="DIR",
    help="Folder of images that show input (left) and truth (right) side by side; replaces --data and --target.",
)
@click.option("--swap", is_flag=True, help="Swap input and truth.")
@click.option(
    "--masks",
    is_flag=True,
    help="The true images are masks, with two values in a file, such as 0 and 1 or 0 and 255: measure Dice and IoU.",
)
@click.option(
    "--mask-from",
    type=click.IntRange(1),
    metavar="N",
    help="Lowest value of a true mask that is set, in the file's own numbers, for masks of more than two values.",
)
@click.option(
    "--source-kind",
    type=click.Choice(["auto", "colour", "gray", "mask", "labels"]),
    default="auto",
    show_default=True,
    help="How the inputs are read, as in `gankit train pix2pix`; 'auto' reads them as the model's weights say, if they "
    "do, and as images otherwise.",
)
@click.option(
    "--holdout",
    type=click.IntRange(2),
    metavar="N",
    help="Measure only every N-th pair: those that training with the same --holdout did not see.",
)
@click.option(
    "--direction", type=click.Choice(["AtoB", "BtoA"]), help="Direction to run, if the model holds two generators."
)
@click.option(
    "--norm",
    type=click.Choice(["instance", "eval"]),
    help="Statistics that BatchNorm uses: those of the image, or the stored ones.",
)
@lpips_option
@engine_options
@click.option("--comparison", type=FILE, help="Write an image that shows input, every result and truth side by side.")
@click.option(
    "--crop", type=BoxType(), help="Part that the comparison shows.  [default: up to 512×512 pixels in the middle]"
)
@click.option(
    "--image",
    "images",
    multiple=True,
    help="Name of a pair that the comparison shows; can be repeated.  [default: the first]",
)
def translate(
    models: tuple[str, ...],
    results: tuple[Path, ...],
    data: Path | None,
    target: Path | None,
    aligned: Path | None,
    swap: bool,
    masks: bool,
    mask_from: int | None,
    source_kind: Any,
    holdout: int | None,
    direction: Any,
    norm: Any,
    lpips: Any,
    backend: str,
    precision: str,
    device: str,
    max_memory: int | None,
    model_options: dict[str, Any],
    json_file: Path | None,
    comparison: Path | None,
    crop: tuple[int, int, int, int] | None,
    images: tuple[str, ...],
) -> None:
    """Measure translated images against true ones: L1, PSNR and SSIM, or Dice and IoU of masks.

    gankit evaluate translate --model pix2pix --data images/ --target masks/ --masks --holdout 5

    Every image is measured at its own size, and the table shows the mean over the images. Where neither the result nor
    the true mask has anything set, Dice and IoU say nothing: such pairs are counted and left out of the mean. A folder
    that does not exist is looked for below the folder that the environment variable GANKIT_DATA names.
    """
    import gankit
    from gankit.evaluation import evaluate_translations
    from gankit.images import encode, from_array

    if comparison is None and (crop or images):
        raise click.UsageError("--crop and --image need --comparison")
    if not models and not results:
        raise click.UsageError("give --model, or --results")
    if masks and lpips:
        raise click.UsageError("--lpips cannot be measured on masks: omit --lpips or --masks")
    if mask_from is not None and not masks:
        raise click.UsageError("--mask-from needs --masks")
    check_models(models)
    prepare_files(json=json_file, comparison=comparison)
    distance = None
    if lpips is not None:
        from gankit.evaluation.perceptual import Lpips

        distance = Lpips(lpips)
    translators = {
        model: gankit.Translator(
            model,
            backend=backend,
            precision=precision,
            device=device,
            max_memory=max_memory,
            direction=direction,
            norm=norm,
            options=model_options or None,
        )
        for model in models
    }
    kinds: tuple[Kind, Kind] = (_kind_of(source_kind, translators), "mask" if masks else "auto")
    pairs = _pairs(data, target, aligned, swap, kinds, mask_from, holdout)
    if wrong := [name for name in images if name not in pairs]:
        raise UsageError(f"--image {wrong[0]}: there is no pair of that name; the first one is {next(iter(pairs))}")
    ways: dict[str, Translate] = {str(folder): _reader(folder, masks) for folder in results}
    ways |= {model: _runner(translator) for model, translator in translators.items()}
    tables = {label: evaluate_translations(way, pairs, masks=masks, lpips=distance) for label, way in ways.items()}

    from rich.console import Console

    console = Console()
    which = f", every {holdout}-th pair" if holdout else ""
    console.print(f"means over n = {len(pairs)}{which}; resize none; backend {backend}, precision {precision}")
    console.print(_table(tables))
    for label, table in tables.items():
        if table.both_empty:
            console.print(
                f"{label}: {table.both_empty} of {len(pairs)} pairs have an empty mask and an empty result; Dice and "
                "IoU leave them out",
                markup=False,
            )
    # The folders as they were named: where they lie on this machine is private.
    named = {"data": data, "target": target, "aligned": aligned}
    report: dict[str, Any] = {name: str(folder) for name, folder in named.items() if folder is not None}
    report |= {"swap": swap, "holdout": holdout, "n": len(pairs), "resize": "none"}
    report |= {"mask_from": mask_from} if masks else {}
    report |= {"backend": backend, "precision": precision} | ({"lpips": lpips} if lpips else {})
    write_json(json_file, {**report, "results": {label: table.as_dict() for label, table in tables.items()}})
    if comparison is not None:
        encode(from_array(_compare(ways, pairs, images or tuple(pairs)[:1], crop)), comparison)
        console.print(f"wrote {comparison}")


def _kind_of(given: Kind, translators: Mapping[str, gankit.Translator]) -> Kind:
    """How the inputs are read: as the user says, or as all models want them.

    Raises:
        UsageError: If the user does not say it, and the models want different kinds.
    """
    wanted = {translator.facts.input_kind: model for model, translator in translators.items()}
    if given != "auto" or not wanted:
        return given
    if len(wanted) > 1:
        said = ", ".join(f"{model} reads {kind}" for kind, model in wanted.items())
        raise UsageError(f"the models read different inputs ({said}): evaluate them one by one, or use --source-kind")
    kind = next(iter(wanted))
    return "auto" if kind == "image" else kind


def _pairs(
    data: Path | None,
    target: Path | None,
    aligned: Path | None,
    swap: bool,
    kinds: tuple[Kind, Kind],
    mask_from: int | None,
    holdout: int | None,
) -> Pairs:
    """(input, truth) by stem; ``kinds`` are theirs."""
    from gankit.datasets.holdout import held_out
    from gankit.datasets.pairs import read_aligned, read_pairs

    first_kind, second_kind = kinds[::-1] if swap else kinds
    if aligned is not None:
        if data is not None or target is not None:
            raise click.UsageError("--aligned holds both: omit --data and --target")
        pairs = read_aligned(found(aligned), first_kind, second_kind, mask_from=mask_from)
    elif data is None or target is None:
        raise click.UsageError("give --data DIR and --target DIR, or --aligned DIR")
    else:
        pairs = read_pairs(found(data), found(target), first_kind, second_kind, mask_from=mask_from)
    if holdout is not None:
        pairs = {stem: pairs[stem] for stem in held_out(list(pairs), holdout)[1]}
    return {stem: (second, first) if swap else (first, second) for stem, (first, second) in pairs.items()}


def _reader(folder: Path, masks: bool) -> Translate:
    """Looks up the results that a folder holds."""
    from gankit.datasets.pairs import read_results, read_side

    images = read_results(found(folder)) if masks else read_side(found(folder))

    def look(name: str, source: np.ndarray) -> np.ndarray:
        if name not in images:
            raise UsageError(f"{folder}: has no image named {name}")
        return images[name]

    return look


def _runner(translator: Callable[[np.ndarray], np.ndarray]) -> Translate:
    return lambda name, source: translator(source)


def _compare(
    ways: dict[str, Translate], pairs: Pairs, names: tuple[str, ...], crop: tuple[int, int, int, int] | None
) -> np.ndarray:
    import numpy as np

    from gankit.evaluation import compare_translations, stack
    from gankit.evaluation.translation import as_rgb

    comparisons = []
    for name in names:
        source, target = pairs[name]
        made = {label: as_rgb(way(name, source)) for label, way in ways.items()}
        try:
            comparisons.append(compare_translations(as_rgb(source), made, as_rgb(target), crop))
        except ValueError as error:
            raise UsageError(f"--crop: {error}") from error
    return np.asarray(stack(comparisons))


def _table(tables: dict[str, TranslationTable]) -> RichTable:
    from rich.table import Table as RichTable

    means: dict[str, TranslationScore] = {label: table.mean for label, table in tables.items()}
    shown = [name for name in _FIGURES if any(getattr(mean, name) is not None for mean in means.values())]
    shown_table = RichTable()
    shown_table.add_column("model", overflow="fold")
    for name in shown:
        shown_table.add_column(_FIGURES[name][0], justify="right")
    for label, mean in means.items():
        shown_table.add_row(label, *(_shown(name, getattr(mean, name)) for name in shown))
    return shown_table


def _shown(name: str, value: float) -> str:
    """A figure of the table; a dash where all masks are empty."""
    return "–" if math.isnan(value) else _FIGURES[name][1].format(value)
