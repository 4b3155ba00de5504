"""``gankit evaluate generate``: samples against a reference set, in the features of a network that the table names."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gankit.cli.evaluate.common import FILE, MODELS, PLACE, check_models, engine_options, prepare_files, write_json
from gankit.cli.evaluate.sets import image_set
from gankit.options import EngineOptions

if TYPE_CHECKING:
    import numpy as np
    from rich.table import Table as RichTable

    from gankit.evaluation.features import FeatureNetwork, Features
    from gankit.evaluation.samples import SampleNames, SampleScore

_SHOWN = 64
_COLUMNS = 8


@dataclass
class _Samples:
    """One row of the table: where its images come from, and the first of them, for the sample grid."""

    batches: Iterable[np.ndarray]
    classes: int = 0
    more: dict[str, Any] = field(default_factory=dict)
    first: list[np.ndarray] = field(default_factory=list)

    @property
    def shown(self) -> int:
        return _COLUMNS * (self.classes or _COLUMNS)

    def __iter__(self) -> Iterator[np.ndarray]:
        for batch in self.batches:
            self.first += list(batch[: max(0, self.shown - len(self.first))])
            yield batch


@click.command()
@click.option("--model", "models", help="Model or weights file to sample; can be repeated.", **MODELS)
@click.option(
    "--samples", multiple=True, type=PLACE, metavar="DIR|IDX", help="Images that exist already; can be repeated."
)
@click.option("--reference", type=PLACE, required=True, metavar="DIR|IDX", help="The real images to compare with.")
@click.option(
    "-n", "number", type=click.IntRange(2), default=10_000, show_default=True, help="Number of samples of each model."
)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Seed of the samples.")
@click.option(
    "--truncation", type=float, help="Draw the latents from a normal distribution that is cut off at ± this value."
)
@click.option(
    "--features",
    metavar="NAME|FILE",
    help="Feature network: fashion-classifier, a file of its kind, or an ONNX file.  [default: fashion-classifier]",
)
@click.option(
    "--inception",
    type=FILE,
    metavar="FILE",
    help="File with Inception's weights: measure FID, KID and Inception score.",
)
@click.option(
    "--fit",
    type=click.Choice(["resize", "crop"]),
    default="resize",
    show_default=True,
    help="How images of another size are brought to the network's: resized, or cropped to their middle.",
)
@engine_options
@click.option("--grid", type=FILE, help="Write a sample grid to this file; every class has a column of its own.")
def generate(
    models: tuple[str, ...],
    samples: tuple[Path, ...],
    reference: Path,
    number: int,
    seed: int,
    truncation: float | None,
    features: str | None,
    inception: Path | None,
    fit: Any,
    backend: str,
    precision: str,
    device: str,
    max_memory: int | None,
    model_options: dict[str, Any],
    json_file: Path | None,
    grid: Path | None,
) -> None:
    """Measure samples against real images: Fréchet distance, kernel distance, classifier score, class agreement.

    gankit evaluate generate --model cgan --model dcgan --reference fashion_mnist/

    Compare only figures with the same feature network, number of samples, reference and resize, all of which are
    printed. FID, KID and Inception score need --inception FILE and pip install 'gankit[perceptual]'. A conditional
    model generates its classes in turn, and the table shows how often the classifier recognises the class.
    """
    if not models and not samples:
        raise click.UsageError("give --model or --samples")
    if features is not None and inception is not None:
        raise click.UsageError("--features and --inception each name a network: give one of them")
    check_models(models)
    prepare_files(json=json_file, grid=grid)
    network = _network(features, inception)
    rows = {}
    for place in samples:
        name, batches = image_set(place)
        rows[name] = _Samples(batches)
    for model in models:
        engine = EngineOptions(backend, precision, device, max_memory=max_memory)
        rows[model] = _sampled(model, number, seed, truncation, model_options, engine)
    label, real = image_set(reference)
    truth = network(real, fit)
    scores = {name: _measured(row, network, truth, fit) for name, row in rows.items()}

    from rich.console import Console

    from gankit.evaluation.samples import SampleNames

    console = Console()
    names = SampleNames.of(network)
    console.print(f"features: {network.name}" + (f" ({network.note})" if network.note else ""), markup=False)
    console.print(f"reference: {label}, n = {len(truth)}, resize {truth.resize}", markup=False)
    console.print(_table(scores, names))
    write_json(
        json_file,
        {
            "features": {"name": network.name, "sha256": network.sha256, "note": network.note},
            "reference": {"name": label, "n": len(truth), "resize": truth.resize},
            "backend": backend,
            "precision": precision,
            "results": {name: {**score.as_dict(names), **rows[name].more} for name, score in scores.items()},
        },
    )
    if grid is not None:
        from gankit.images import encode, from_array

        encode(from_array(_sample_grid(rows)), grid)
        console.print(f"wrote {grid}")


def _network(features: str | None, inception: Path | None) -> FeatureNetwork:
    if inception is not None:
        from gankit.evaluation.inception import open_inception

        return open_inception(inception)
    from gankit.evaluation.features import open_features

    return open_features(features or "fashion-classifier")


def _sampled(
    model: str, number: int, seed: int, truncation: float | None, options: dict[str, Any], engine: EngineOptions
) -> _Samples:
    """A model's samples, part by part."""
    import numpy as np

    import gankit
    from gankit.checkpoints import open_model

    sampler = gankit.Sampler(open_model(model, options=options or None), engine=engine)
    classes = sampler.facts.classes

    def batches() -> Iterator[np.ndarray]:
        part = []
        for _, image in sampler.stream(range(number), seed, truncation=truncation):
            part.append(image)
            if len(part) == sampler.batch:
                yield np.stack(part)
                part = []
        if part:
            yield np.stack(part)

    return _Samples(batches(), classes, {"seed": seed, "truncation": truncation, "sha256": sampler.loaded.sha256})


def _measured(row: _Samples, network: FeatureNetwork, truth: Features, fit: Any) -> SampleScore:
    import numpy as np

    from gankit.evaluation.samples import measure_samples

    ours = network(row, fit)
    reported = 0 if ours.logits is None else ours.logits.shape[1]
    # sample i of a conditional model has class i modulo their number; another classifier's classes are other things
    asked = np.arange(len(ours)) % row.classes if row.classes and row.classes == reported else None
    return measure_samples(ours, truth, asked)


def _table(scores: dict[str, SampleScore], names: SampleNames) -> RichTable:
    from rich.table import Table as RichTable

    table = RichTable()
    table.add_column("samples", overflow="fold")
    for heading in ("n", "resize", names.frechet, f"{names.kernel} ×1000", names.score, "class as asked"):
        table.add_column(heading, justify="right")
    for label, score in scores.items():
        table.add_row(
            label,
            str(score.n),
            score.resize,
            f"{score.frechet:.3f}",
            f"{1000 * score.kernel[0]:.3f} ± {1000 * score.kernel[1]:.3f}",
            "" if score.score is None else f"{score.score[0]:.2f} ± {score.score[1]:.2f}",
            "" if score.agreement is None else f"{score.agreement:.1%}",
        )
    return table


def _sample_grid(rows: dict[str, _Samples]) -> np.ndarray:
    """The first samples of each row, one block below the other."""
    import numpy as np

    from gankit.evaluation import Panel, side_by_side, stack
    from gankit.images.grid import grid

    blocks = []
    for label, row in rows.items():
        same = [image for image in row.first if image.shape == row.first[0].shape]
        columns = row.classes or _COLUMNS
        pixels = grid([same[start : start + columns] for start in range(0, len(same), columns)])
        blocks.append(side_by_side([Panel(label, pixels)], (0, 0, pixels.shape[1], pixels.shape[0])))
    return np.asarray(stack(blocks))
