"""The registry of recipes: one file and one line are a recipe, and its command follows from what it states."""

import shlex
import subprocess
import sys
from dataclasses import fields
from types import MappingProxyType

import click
import pytest
from click.testing import CliRunner
from PIL import Image

from gankit import cli
from gankit.cli.train.command import command
from gankit.training import recipes
from gankit.training.choices import ADVERSARIAL_NAMES, CONTENT_NAMES
from gankit.training.losses import ADVERSARIAL
from gankit.training.recipes.base import Choice, Option, Whole, with_defaults
from gankit.training.systems.adversary import CONTENT

BRIGHTNESS = '''
"""A recipe in one file: learns the mean brightness of a folder of images."""

from gankit.training.recipes.base import FOLDER, RATE, Option, Recipe, RunDefaults


def _train(job, given):
    import numpy as np
    import torch
    from torch import nn

    from gankit.datasets.folders import read_images
    from gankit.training.loop import fit
    from gankit.training.system import System

    wanted = float(np.mean([image.mean() for image in read_images(given["images"])]))

    class Brightness(System):
        def __init__(self):
            self.generator = nn.Linear(1, 1, bias=False)
            self.optimiser = torch.optim.SGD(self.generator.parameters(), lr=given.get("lr", 0.5))
            self.modules, self.optimisers = {"generator": self.generator}, {"generator": self.optimiser}
            self.schedules = {}

        def step(self, batch, index):
            self.optimiser.zero_grad()
            loss = (self.generator.weight - batch).square().sum() / 2
            loss.backward()
            self.optimiser.step()
            return {"distance": loss.detach()}

        def validate(self, generator):
            return {"score": -abs(wanted - generator.weight.item())}

        def save_generator(self, path, state, extra):
            path.write_text(str(state["weight"].item()))

    def batches(start):
        while True:
            yield wanted

    return fit(Brightness(), batches, job.plan, job.notify)


RECIPE = Recipe(
    "brightness",
    "The mean brightness of a folder (nobody 2026).",
    "--data photos/ --steps 10",
    (
        Option("images", FOLDER, "Folder of images.", required=True, switch="data"),
        Option("lr", RATE, "Learning rate.", default=0.5),
    ),
    _train,
    RunDefaults(steps=50, batch=1, average=0.0),
    unit="levels",
)
'''


@pytest.fixture
def another(tmp_path, monkeypatch):
    """A recipe more: one file, and one line of the registry."""
    (tmp_path / "brightness_recipe.py").write_text(BRIGHTNESS)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(recipes, "RECIPES", MappingProxyType({**recipes.RECIPES, "brightness": "brightness_recipe"}))
    yield
    sys.modules.pop("brightness_recipe", None)


def run(*arguments):
    return CliRunner().invoke(cli.gankit, ["train", *map(str, arguments)], catch_exceptions=False)


def test_another_recipe_is_one_file_and_one_line(another, tmp_path):
    listed = run("--help").output
    assert "brightness The mean brightness of a folder (nobody 2026)." in " ".join(listed.split())
    assert "gankit train brightness --data photos/ --steps 10 --output runs/brightness" in listed
    own = " ".join(run("brightness", "--help").output.split())
    assert "--lr FLOAT RANGE Learning rate. [default: 0.5]" in own
    assert "--steps INTEGER RANGE Number of training steps. [default: 50; x>=1]" in own
    assert "gankit train brightness --data photos/" in own

    photos = tmp_path / "photos"
    photos.mkdir()
    Image.new("RGB", (4, 4), (90, 90, 90)).save(photos / "a.png")
    arguments = ["--data", photos, "--output", tmp_path / "run", "--steps", 1, "--lr", 1]
    result = run("brightness", *arguments)
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("best -0.000 levels at step 1: ")
    assert float((tmp_path / "run/final.safetensors").read_text()) == pytest.approx(90)
    assert (tmp_path / "run/log.csv").read_text().splitlines()[1].startswith("1,distance,")


def test_a_name_that_is_none_gets_a_hint(another, capsys):
    assert cli.main(["train", "brightnes"]) == 2
    assert "did you mean 'brightness'?" in capsys.readouterr().err


@pytest.mark.parametrize("name", recipes.RECIPES)
def test_every_recipe_is_what_it_is_registered_as(name):
    recipe = recipes.recipe(name)
    assert recipe.name == name
    assert recipe.summary.endswith(".")
    keys = [option.name for option in recipe.options]
    assert len(keys) == len(set(keys))
    assert all(option.help.endswith(".") for option in recipe.options)


@pytest.mark.parametrize("name", recipes.RECIPES)
def test_the_examples_are_commands_that_parse(name):
    """With a folder that is there in place of the reader's."""
    recipe = recipes.recipe(name)
    words = shlex.split(recipe.command)
    assert words[:3] == ["gankit", "train", name]
    given = [". " if word.endswith("/") and not word.startswith("runs") else word for word in words[3:]]
    made = command(recipe)
    context = made.make_context(name, [word.strip() for word in given], resilient_parsing=False)
    assert context.params["output"].name == name


def test_the_names_to_choose_from_are_those_of_the_code():
    assert tuple(ADVERSARIAL) == ADVERSARIAL_NAMES
    assert tuple(CONTENT) == CONTENT_NAMES


def test_the_defaults_of_the_help_are_those_of_the_dataclasses():
    """Every default that a page shows is what a run has that is given nothing."""
    from gankit.training.systems.latent_options import LatentOptions, from_preset

    for name in ("gan", "cgan", "dcgan", "wgan", "wgan-gp", "lsgan", "hinge"):
        recipe = recipes.recipe(name)
        made = from_preset(recipe.preset, {"steps": 1})
        known = {field.name for field in fields(LatentOptions)}
        shown = {option.name: option.default for option in recipe.options if option.name in known}
        assert len(shown) > 20
        assert shown == {key: getattr(made, key) for key in shown}


def test_defaults_come_from_the_first_source_that_has_them():
    from gankit.datasets.options import Cut, ImageFolderData

    own = [Option("size", Whole(), "Side."), Option("seed", Whole(), "Seed."), Option("x", Choice(("a",)), "X.")]
    assert [each.default for each in with_defaults(own, Cut, ImageFolderData)] == [256, 0, None]
    assert [each.default for each in with_defaults(own, Cut, preset={"size": 8})] == [8, None, None]


def test_choices_of_numbers_are_numbers():
    made = command(recipes.recipe("srresnet"))
    arguments = ["--data", ".", "--validation", ".", "--output", "x", "--scale", "2"]
    assert made.make_context("srresnet", [*arguments]).params["scale"] == 2
    with pytest.raises(click.BadParameter, match="is not one of"):
        made.make_context("srresnet", [*arguments[:-1], "3"])


def test_the_registry_needs_no_torch():
    """Nor NumPy: the list of commands must stay fast."""
    code = (
        "import sys\nfrom gankit.training import recipes\n"
        "assert all(recipes.recipe(name).options for name in recipes.RECIPES)\n"
        "assert not {'torch', 'numpy', 'PIL'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
