"""The options of every model: one dataclass, from which the facts and the files derive."""

import dataclasses
import inspect
import json

import pytest
import torch
from safetensors import safe_open

from gankit import models
from gankit.checkpoints.shipped import weights_path
from gankit.models import checks
from gankit.models.cyclegan import ResNetGeneratorOptions
from gankit.models.dcgan import DCGANOptions
from gankit.models.srgan import SRResNet, SRResNetOptions
from gankit.weights import TRAINED


@pytest.mark.parametrize("name", sorted(models.MODELS))
def test_every_model_has_one_class_of_options(name):
    """The options of its facts are among them, and the defaults build it."""
    kind, known = models.options_of(name), models.known_options(name)
    assert set(models.facts(name).options) <= set(known)
    assert models.facts(name, known) == models.facts(name)
    assert models.facts(name, json.loads(json.dumps(known))) == models.facts(name), "also from JSON"
    assert kind(**known) == kind()
    for info in kind.described():
        assert info.text
        assert not info.text.endswith(".")
        assert f"    {info.name}: " in kind.__doc__
    with pytest.raises(dataclasses.FrozenInstanceError):
        kind().channels = 3


@pytest.mark.parametrize("name", sorted(models.MODELS))
def test_the_facts_of_a_file_are_json(name):
    options = models.facts(name).options
    assert json.loads(json.dumps(options)) == options, "lists, not tuples"


@pytest.mark.parametrize("name", sorted({*TRAINED}))
def test_the_headers_of_shipped_files_are_read_as_they_are(name):
    """They are from before there were dataclasses, and some are short."""
    with safe_open(weights_path(name), "pt") as file:
        header = file.metadata()
    options = json.loads(header["options"])
    facts = models.facts(header["model"], options)
    assert {name: facts.options[name] for name in options} == options
    usual = models.facts(header["model"]).options
    assert all(value == usual[name] for name, value in facts.options.items() if name not in options)


def test_only_changed_options_of_srgan_are_written():
    written = SRResNetOptions(output="tanh", bn_eps=1).stored()
    assert written == {"scale": 4, "channels": 64, "blocks": 16, "in_channels": 3, "bn_eps": 1.0, "output": "tanh"}
    assert isinstance(written["bn_eps"], float)


def test_kernels_are_written_in_full():
    assert DCGANOptions(widths=[8]).stored()["kernels"] == [[4, 1, 0], [4, 2, 1]]
    assert DCGANOptions(widths=[8], kernels=[[7, 1, 0], [4, 2, 1]]).kernels == ((7, 1, 0), (4, 2, 1))


def test_a_generator_takes_its_options_and_nothing_else():
    for name, line in models.MODELS.items():
        kind = type(models.build(name, SMALL.get(name)))
        assert list(inspect.signature(kind).parameters) == ["options"]
        assert kind.__name__ == line.generator
        assert kind.Options is models.options_of(name)
    assert SRResNet(SRResNetOptions(scale=2, channels=4, blocks=1)).scale == 2


SMALL = {"pix2pix": {"channels": 2}, "esrgan": {"blocks": 1}, "cyclegan": {"channels": 4, "blocks": 1}}


def test_the_word_none():
    for value in (None, "none", "None"):
        assert ResNetGeneratorOptions(dropout=value).dropout is None
    assert ResNetGeneratorOptions(dropout=0).dropout == 0.0


def test_build_refuses_what_facts_refuse():
    for make in (models.build, models.facts):
        with pytest.raises(ValueError, match=r"^blocks must be a whole number from 1 to 1024, not True$"):
            make("srgan", {"blocks": True})
        with pytest.raises(TypeError, match=r"^'gan' has no option 'hiden': did you mean 'hidden' \(a list of 1 to 64"):
            make("gan", {"hiden": [3]})


def test_the_same_seed_gives_the_same_weights():
    """The order of construction is part of what a recipe reproduces."""
    for _ in range(2):
        torch.manual_seed(3)
        total = sum(value.double().abs().sum() for value in SRResNet(SRResNetOptions(4, 8, 1)).state_dict().values())
        torch.manual_seed(3)
        head = torch.nn.Conv2d(3, 8, 9, padding=4)
        torch.manual_seed(3)
        assert torch.equal(SRResNet(SRResNetOptions(4, 8, 1)).head[0].weight, head.weight)
        assert total > 0


@pytest.mark.parametrize(
    ("rule", "good", "bad", "words"),
    [
        (checks.Whole(9), (1, 9), (0, 10, 1.0, True, "1", None), "a whole number from 1 to 9"),
        (checks.Number(0, 1), (0, 1, 0.5), (-0.1, 1.1, float("nan"), True, "0", 10**400), "a number from 0 to 1"),
        (checks.Number(0, 1, above=True), (1e-9, 1), (0, -1, 2), "a number above 0 and at most 1"),
        (checks.Number(0, 1, below=True), (0, 0.99), (1, -1), "a number of at least 0 and below 1"),
        (checks.Choice(("a", "b", "c")), ("a", "c"), ("d", ["a"], None, 1), "'a', 'b' or 'c'"),
        (checks.Choice((2, 4)), (2, 4), (3, 4.0, "2", True), "2 or 4"),
        (checks.Choice((1, 3)), (1, 3), (True,), "1 or 3"),
        (checks.Flag(), (True, False), (0, 1, "true", None), "true or false"),
        (checks.Optional(checks.Whole(3)), (None, "none", 2), (0, "x"), "none or a whole number from 1 to 3"),
        (checks.Several(checks.Whole(3), 2), ([1], (1, 2)), ([], [1, 2, 3], [4], 1, "1"), "a list of 1 to 2 values"),
    ],
)
def test_rules(rule, good, bad, words):
    for value in good:
        rule.require("x", value)
    for value in bad:
        with pytest.raises(ValueError) as caught:
            rule.require("x", value)
        assert str(caught.value).startswith(f"x must be {words}")
        assert len(str(caught.value)) < 250
