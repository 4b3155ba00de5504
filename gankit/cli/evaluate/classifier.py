"""``gankit evaluate classifier``: the accuracy of the network behind the figures of Fashion-MNIST."""

from __future__ import annotations

from pathlib import Path

import click

from gankit.cli.evaluate.common import FILE, PLACE, prepare_files, write_json
from gankit.cli.evaluate.sets import labelled_tensors


@click.command()
@click.option("--model", default="fashion-classifier", show_default=True, metavar="NAME|FILE", help="The classifier.")
@click.option("--data", type=PLACE, required=True, metavar="DIR", help="Folder with the four official IDX files.")
@click.option("--json", "json_file", type=FILE, help="Write the figures to this file.")
def classifier(model: str, data: Path, json_file: Path | None) -> None:
    """Measure a classifier on the official test images (t10k), which its training never sees.

    gankit evaluate classifier --data fashion_mnist/
    """
    from gankit.evaluation.classifier import accuracy, open_classifier, shipped

    prepare_files(json=json_file)
    name, images, classes = labelled_tensors(data, "t10k")
    net, _, sha256 = open_classifier(shipped(model))
    figure = accuracy(net, images, classes)
    click.echo(f"{model}: {figure:.2%} right of {len(classes)} images of {name}")
    report = {"model": model, "sha256": sha256, "test": name, "n": len(classes), "resize": "none", "accuracy": figure}
    write_json(json_file, report)
