"""What users type: one name for one thing in all recipes, grouped help pages, and the commands of the shipped cards."""

import json
import re
import shlex
from importlib.resources import files

import click
import pytest
from click.testing import CliRunner

from gankit import cli
from gankit.training import recipes
from gankit.training.recipes.base import GROUPS, Choice, Flag, Option, Switch

TRICKS = {"adversarial", "smooth", "betas", "schedule", "warmup", "discriminator_steps", "discriminator_lr"}
TRICKS |= {"weight_decay", "discriminator_norm", "instance_noise", "r1_weight", "penalty_weight"}
ADVERSARIAL = sorted(set(recipes.RECIPES) - {"vae", "srresnet", "edsr"})


def options(name):
    return {option.name: option for option in recipes.recipe(name).options}


def cards():
    found = [path for path in (files("gankit") / "weights").iterdir() if path.name.endswith(".json")]
    return sorted(found, key=lambda path: path.name)


@pytest.mark.parametrize("card", cards(), ids=lambda path: path.name)
def test_the_commands_of_the_cards_are_commands(card, monkeypatch):
    """Their folders are the reader's, and need not be here."""

    def any_place(self, value, param, ctx):
        return value

    monkeypatch.setattr(click.Path, "convert", any_place)
    for line in json.loads(card.read_text())["command"].split("&&"):
        words = shlex.split(line)
        assert words.pop(0) == "gankit"
        command = cli.gankit
        while isinstance(command, click.Group):
            command, words = command.get_command(click.Context(command), words[0]), words[1:]
        command.make_context(command.name, words)


@pytest.mark.parametrize("name", recipes.RECIPES)
def test_every_option_has_a_section(name):
    listed = [option for names in GROUPS.values() for option in names]
    assert len(listed) == len(set(listed))
    assert set(options(name)) <= set(listed)
    page = CliRunner().invoke(cli.gankit, ["train", name, "--help"]).output
    headings = re.findall(r"^([A-Z]\w+(?: \w+)?):$", page, re.MULTILINE)
    assert headings == [*GROUPS, "Other options"]  # where --help is


def test_a_recipe_may_name_sections_of_its_own():
    from gankit.cli.train.command import _headings

    recipe = recipes.recipe("gan")
    own = Option("brightness", Flag(), "Brightness.", group="Light")
    object.__setattr__(recipe := type(recipe)(**{**vars(recipe), "options": (own,)}), "name", "light")
    assert _headings(recipe)["brightness"] == "Light"


def test_one_name_is_one_thing():
    """Options of one name have one switch and take one kind of value, apart from the choices that a network has."""
    kinds = {}
    for name in recipes.RECIPES:
        for option in options(name).values():
            kind = type(option.kind).__name__ if isinstance(option.kind, Choice | Switch) else repr(option.kind)
            kinds.setdefault(option.flag, {}).setdefault(kind, set()).add(name)
    several = {flag: found for flag, found in kinds.items() if len(found) > 1}
    # DATA may be one file of MNIST's; a U-Net's dropout is on or off; sizes below 8 cannot be made by doubling
    assert set(several) <= {"--data", "--dropout", "--size"}, several


def test_weights_are_called_weights():
    """Whatever multiplies a term of a loss."""
    for name in recipes.RECIPES:
        for option in options(name).values():
            if option.help.startswith("Weight of") or option.help.startswith("Weight,"):
                assert option.flag.endswith("-weight"), option.flag


@pytest.mark.parametrize("name", ADVERSARIAL)
def test_adversarial_recipes_have_the_same_tricks(name):
    assert set(options(name)) >= TRICKS


def test_the_names():
    assert {"--image-pool", "--cycle-weight", "--identity-weight", "--size"} <= {
        o.flag for o in options("cyclegan").values()
    }
    assert "image pool" in options("cyclegan")["image_pool"].help
