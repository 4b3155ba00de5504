"""Small things to train with."""

import csv

import torch
from torch import nn

from gankit.datasets.patches import SuperResolutionPatches
from gankit.datasets.synthetic import synthetic_image
from gankit.training.fabric import fabric_for
from gankit.training.loader import batches
from gankit.training.loop import System
from gankit.training.systems.srgan import AdversarialOptions, AdversarialSystem, ContentOptions, ContentSystem

SMALL = {"blocks": 1, "channels": 8}
TINY = ["--steps", "4", "--batch", "2", "--patch", "8", "--synthetic", "0", "--device", "cpu", "--precision", "fp32"]
NET = ["--blocks", "1", "--channels", "8"]


def score(generator):
    """A score that is quick and sees every weight."""
    x = torch.linspace(0, 1, 3 * 6 * 7).view(1, 3, 6, 7)
    return {"score": -float(generator(x).square().mean())}


def system(recipe, steps, precision="fp32", **options):
    torch.manual_seed(0)
    fabric = fabric_for("cpu", precision)
    options = {"steps": steps, "model": SMALL, **options}
    if recipe == "srresnet":
        return ContentSystem(ContentOptions(**options), fabric, score)
    narrow = {"head_start": 3, "discriminator_channels": 4, **options}
    return AdversarialSystem(AdversarialOptions(**narrow), fabric, score)


class Toy(System):
    """One weight that learns to be the batch's value."""

    def __init__(self, rate=0.1):
        self.generator = nn.Linear(1, 1, bias=False)
        nn.init.zeros_(self.generator.weight)
        self.modules = {"generator": self.generator}
        self.optimiser = torch.optim.SGD(self.generator.parameters(), lr=rate, momentum=0.5)
        self.optimisers = {"generator": self.optimiser}
        self.schedules = {}
        self.saved, self.validated = [], []

    def step(self, batch, index):
        self.optimiser.zero_grad()
        weight = self.generator.weight
        # The root's slope at nothing is infinite, and nothing times infinity is no number, while the loss is finite.
        loss = (weight * 0).abs().sqrt().sum() if batch == "steep" else (weight - batch).square().sum()
        loss.backward()
        self.optimiser.step()
        return {"distance": loss.detach()}

    def validate(self, generator):
        self.validated.append((generator.training, generator.weight.item()))
        return {"score": -abs(1 - generator.weight.item())}

    def save_generator(self, path, state, extra):
        self.saved.append((path.name, state["weight"].item(), dict(extra)))


def ones(start):
    while True:
        yield 1.0


def stream(batch=2, patch=8, scale=4, seed=1, workers=0):
    image = synthetic_image(seed, size=96)
    patches = SuperResolutionPatches([image], scale=scale, patch=patch, synthetic=0, reductions=(1.0,))
    return lambda start: batches(patches, batch, start, workers)


def rows(path):
    """The log without its times."""
    with path.open(newline="") as file:
        return [row for row in csv.reader(file) if row[1] != "steps_per_second"]


def flat(tree, name=""):
    """Every leaf of nested dictionaries and lists, by its path."""
    if isinstance(tree, dict):
        return {key: value for part in tree for key, value in flat(tree[part], f"{name}/{part}").items()}
    if isinstance(tree, list | tuple):
        return {key: value for part, item in enumerate(tree) for key, value in flat(item, f"{name}/{part}").items()}
    return {name: tree}


def same(first, second):
    """Whether two trees are equal to the last bit."""
    first, second = flat(first), flat(second)
    return first.keys() == second.keys() and all(
        torch.equal(value, second[name]) if isinstance(value, torch.Tensor) else value == second[name]
        for name, value in first.items()
    )
