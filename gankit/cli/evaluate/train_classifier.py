"""``gankit evaluate train-classifier``: trains the network behind the figures of Fashion-MNIST."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gankit.cli.evaluate.common import FILE, PLACE, prepare_files
from gankit.cli.evaluate.sets import labelled_tensors

if TYPE_CHECKING:
    from gankit.training.classifier import Step

_LOGGED_EVERY = 40


@click.command()
@click.option("--data", type=PLACE, required=True, metavar="DIR", help="Folder with the four official IDX files.")
@click.option("--output", type=FILE, required=True, help="Write the weights to this file.")
@click.option("--epochs", type=click.IntRange(1), default=10, show_default=True, help="Passes over the images.")
@click.option("--batch", type=click.IntRange(2), default=250, show_default=True, help="Images in a step.")
@click.option(
    "--lr", type=click.FloatRange(0, min_open=True), default=4e-3, show_default=True, help="Highest learning rate."
)
@click.option(
    "--seed", type=click.IntRange(0), default=0, show_default=True, help="Seed of the weight init and the image order."
)
@click.option("--log", type=FILE, help="Write the losses to this file, as CSV.")
@click.option("-q", "--quiet", is_flag=True, help="Print the result only.")
def train_classifier(
    data: Path, output: Path, epochs: int, batch: int, lr: float, seed: int, log: Path | None, quiet: bool
) -> None:
    """Train the classifier on the training images; this takes minutes on one core.

    gankit evaluate train-classifier --data fashion_mnist/ --output classifier.safetensors

    The accuracy of the stored weights on the test images is written into the file; the tables of `gankit evaluate
    generate` state it.
    """
    from gankit.evaluation.classifier import accuracy, open_classifier, save_classifier
    from gankit.pipeline.output import write_whole
    from gankit.training import classifier

    prepare_files(output=output, log=log)
    _, images, classes = labelled_tensors(data, "train")
    test_name, test_images, test_classes = labelled_tensors(data, "t10k")
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

    plan = classifier.ClassifierPlan(epochs, batch, lr, seed=seed)
    net = classifier.train_classifier(images, classes, plan, notify)
    save_classifier(output, net, {})
    stored, _, _ = open_classifier(output)
    figure = accuracy(stored, test_images, test_classes)
    test = f"the {len(test_classes)} images of {test_name.partition('.')[0]}"
    save_classifier(output, net, {"accuracy": f"{figure:.4f}", "test": test})
    if log is not None:
        write_whole(log, lines.getvalue())
    click.echo(f"{output}: {figure:.2%} right on {test}")
