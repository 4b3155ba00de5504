"""``gankit evaluate classifier`` and ``train-classifier``: the network behind the figures of Fashion-MNIST."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gankit.cli.evaluate.common import PLACE, prepare_files, write_json
from gankit.cli.evaluate.sets import labelled

if TYPE_CHECKING:
    from torch import Tensor

    from gankit.evaluation.classifier_training import Step

_FILE = click.Path(path_type=Path, dir_okay=False)
_LOGGED_EVERY = 40


@click.command()
@click.option("--model", default="fashion-classifier", show_default=True, metavar="NAME|FILE", help="The classifier.")
@click.option("--data", type=PLACE, required=True, metavar="DIR", help="Folder of the four official IDX files.")
@click.option("--json", "json_file", type=_FILE, help="Write the figures there.")
def classifier(model: str, data: Path, json_file: Path | None) -> None:
    """Measure a classifier on the official test images, t10k, which no training saw.

    gankit evaluate classifier --data fashion_mnist/
    """
    from gankit.evaluation.classifier import accuracy, open_classifier, shipped

    prepare_files(json=json_file)
    name, images, classes = _tensors(data, "t10k")
    net, _, sha256 = open_classifier(shipped(model))
    figure = accuracy(net, images, classes)
    click.echo(f"{model}: {figure:.2%} right of {len(classes)} images of {name}")
    report = {"model": model, "sha256": sha256, "test": name, "n": len(classes), "resize": "none", "accuracy": figure}
    write_json(json_file, report)


@click.command(name="train-classifier")
@click.option("--data", type=PLACE, required=True, metavar="DIR", help="Folder of the four official IDX files.")
@click.option("--output", type=_FILE, required=True, help="Weights file to write.")
@click.option("--epochs", type=click.IntRange(1), default=10, show_default=True, help="Passes over the images.")
@click.option("--batch", type=click.IntRange(2), default=250, show_default=True, help="Images in a step.")
@click.option("--lr", type=click.FloatRange(0, min_open=True), default=4e-3, show_default=True, help="Highest rate.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@click.option("--log", type=_FILE, help="Write the losses there, as CSV.")
@click.option("-q", "--quiet", is_flag=True, help="Print the result only.")
def train(
    data: Path, output: Path, epochs: int, batch: int, lr: float, seed: int, log: Path | None, quiet: bool
) -> None:
    """Train the classifier on the training images; minutes on one core.

    gankit evaluate train-classifier --data fashion_mnist/ --output classifier.safetensors

    Its accuracy on the test images, with the weights as they are stored, goes into the file and is what tables state.
    """
    from gankit.evaluation.classifier import accuracy, open_classifier, save_classifier
    from gankit.evaluation.classifier_training import ClassifierPlan, train_classifier
    from gankit.pipeline.output import write_whole

    prepare_files(output=output, log=log)
    _, images, classes = _tensors(data, "train")
    test_name, test_images, test_classes = _tensors(data, "t10k")
    lines = io.StringIO()
    rows = csv.writer(lines, lineterminator="\n")
    rows.writerow(["step", "seconds", "loss"])

    def notify(state: Step) -> None:
        if state.step % _LOGGED_EVERY and state.step != state.steps:
            return
        rows.writerow([state.step, f"{state.seconds:.1f}", f"{state.loss:.5f}"])
        if not quiet:
            left = state.seconds / state.step * (state.steps - state.step)
            click.echo(f"step {state.step} of {state.steps}: loss {state.loss:.4f}, {left:.0f} s left", err=True)

    net = train_classifier(images, classes, ClassifierPlan(epochs, batch, lr, seed=seed), notify)
    save_classifier(output, net, {})
    stored, _, _ = open_classifier(output)
    figure = accuracy(stored, test_images, test_classes)
    test = f"the {len(test_classes)} images of {test_name.partition('.')[0]}"
    save_classifier(output, net, {"accuracy": f"{figure:.4f}", "test": test})
    if log is not None:
        write_whole(log, lines.getvalue())
    click.echo(f"{output}: {figure:.2%} right on {test}")


def _tensors(data: Path, part: str) -> tuple[str, Tensor, Tensor]:
    """The name of a part's file, its images (N, 1, H, W) uint8, and its classes."""
    import torch

    name, images, classes = labelled(data, part)
    # copies: the file's own memory cannot be written to, which torch warns of
    return name, torch.from_numpy(images.copy())[:, None], torch.from_numpy(classes.copy())
