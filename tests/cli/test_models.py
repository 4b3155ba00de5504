"""``gankit models``: the list, and every model's facts."""

import hashlib
from pathlib import Path

import pytest
import torch

import gankit
from gankit import cli, models
from gankit.checkpoints import card, open_model
from gankit.checkpoints.shipped import card_of, weights_path
from gankit.models import MODELS
from gankit.models.patchgan import PatchGAN
from gankit.weights import TRAINED


def test_the_list(capsys):
    assert cli.main(["models"]) == 0
    *tasks, known = (part.splitlines() for part in capsys.readouterr().out.rstrip().split("\n\n"))
    assert all(len(line) <= 80 for part in (*tasks, known) for line in part)
    first = [line.split()[0] for part in tasks for line in part if not line.startswith(" ")]
    assert [word for word in first if word in TRAINED] == [
        name for task in ("upscale", "generate", "translate") for name, each in TRAINED.items() if each.task == task
    ]
    assert [line.split()[0] for line in known[1:]] == sorted(MODELS)
    words = " ".join(" ".join(line for part in tasks for line in part).split())
    assert "not installed" not in words
    for figure in ("31.23", "27.96", "145", "3.1", "90.6", "Dice 0.856"):
        assert f" {figure} " in words, "the figures of the cards"
    assert words.count("Apache-2.0.") == len(TRAINED)


def test_weights_that_are_not_installed(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr("gankit.cli.weights_table.files", lambda package: tmp_path)
    assert cli.main(["models"]) == 0
    assert capsys.readouterr().out.count("not installed") == len(TRAINED)


def test_a_task_is_that_of_the_model():
    for name, weights in TRAINED.items():
        found = card(name)
        assert weights.task == models.facts(found["model"], found["options"]).task
        assert weights.licence == found["licence"]


@pytest.mark.parametrize("name", TRAINED)
def test_all_weights_that_ship(name, capsys):
    assert cli.main(["models", name]) == 0
    said = capsys.readouterr().out
    for word in ("sha256", "parameters", "licence", "command", "data"):
        assert word in said
    loaded = open_model(name)
    assert loaded.facts.name == card(name)["model"]
    path = weights_path(name)
    assert path.stat().st_size <= 8e6
    others = [path.with_name(path.name.replace("_G_A", "_G_B"))] if path.stem.endswith("_G_A") else []
    for other in others:
        assert open_model(name, direction="BtoA").path == other
    for file in (path, *others):
        numbers = sum(item.numel() for item in loaded.generator.state_dict().values())
        assert file.stat().st_size < 2.1 * numbers + 50_000, "fp16 storage; norms are fp32"
        assert card_of(file)["sha256"] == hashlib.sha256(file.read_bytes()).hexdigest()
        for log in card_of(file)["logs"]:
            assert (Path(gankit.__file__).parents[1] / log).is_file()


def test_all_that_ships_is_small():
    folder = weights_path("srgan").parent
    assert sum(file.stat().st_size for file in folder.iterdir()) <= 40e6


@pytest.mark.parametrize("name", sorted(MODELS))
def test_every_model_can_be_shown(name, capsys):
    assert cli.main(["models", name]) == 0
    said = capsys.readouterr().out
    assert "multiply-accumulates" in said
    assert "parameters" in said
    said = " ".join(said.split())
    for info in models.options_of(name).described():
        assert f" {info.name} " in f" {said} "


def test_the_options_of_a_model(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "160")
    assert cli.main(["models", "srvgg"]) == 0
    said = capsys.readouterr().out.split("\n\n")[-1].splitlines()
    assert said[0].split() == ["option", "default", "allowed", "meaning"]
    assert said[-1].split(maxsplit=2)[:2] == ["activation", "prelu"]
    assert "'prelu', 'relu' or 'leaky'" in said[-1]


@pytest.mark.parametrize("name", sorted(TRAINED.keys() & MODELS.keys()))
def test_a_name_of_both_weights_and_a_model_shows_both(name, capsys):
    assert cli.main(["models", name]) == 0
    weights, model, options = capsys.readouterr().out.split("\n\n")
    assert TRAINED[name].summary in " ".join(weights.split())
    assert MODELS[name].summary in " ".join(model.split())
    assert card(name)["sha256"] in "".join(weights.split()), "whole, also on 80 columns"
    assert "sha256" not in model
    for part in (weights, model):
        assert "multiply-accumulates" in part
    assert all(info.name in options for info in models.options_of(name).described())


def test_a_model_names_the_weights_of_it(capsys):
    for name, ship in (("pix2pix", "nuclei-masks, nuclei-tissue"), ("dcgan", "dcgan, wgan-gp"), ("esrgan", "none")):
        assert cli.main(["models", name]) == 0
        last = capsys.readouterr().out.split("\n\n")[-2].splitlines()[-1]  # before the options
        assert last.startswith("weights ")
        assert last.split(maxsplit=1)[1].startswith(ship)


def test_figures_of_the_published_networks(capsys):
    cli.main(["models", "cyclegan"])
    said = capsys.readouterr().out
    assert "11,378,179" in said
    assert "49.5 G for 256×256 input" in said or "49.6 G for 256×256 input" in said
    assert "the whole image" in said
    assert "no; every image runs whole" in said
    assert "InstanceNorm2d" in said
    cli.main(["models", "srgan"])
    said = capsys.readouterr().out
    assert "1,547,350" in said
    assert "40 input pixels on each side" in said
    assert "sha256" in said


def said_of(capsys, *arguments):
    assert cli.main(["models", *map(str, arguments)]) == 0
    return " ".join(capsys.readouterr().out.split())


def test_a_file_with_a_header(capsys):
    path = weights_path("srgan")
    said = said_of(capsys, path)
    assert "model srgan: ×2/×4/×8 upscaling" in said
    assert "recognised by its header" in said
    assert "assumed nothing" in said
    assert "receptive field 40 input pixels" in said
    assert hashlib.sha256(path.read_bytes()).hexdigest() in said.replace(" ", "")


def test_a_file_of_another_project_and_one_without_names(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    state = models.build("cyclegan", {"channels": 4, "blocks": 2}).state_dict()
    torch.save(state, tmp_path / "named.pth")
    said = said_of(capsys, tmp_path / "named.pth")
    assert "recognised by the names of its tensors: junyanz ResNet (CycleGAN, CUT, GAN Compression)" in said
    assert '"blocks"' not in said
    assert "blocks=2" in said
    torch.save({f"t{index}": value for index, value in enumerate(state.values())}, tmp_path / "nameless.pth")
    said = said_of(capsys, tmp_path / "nameless.pth")
    assert "recognised by the order and shapes of its tensors: ResNet (CycleGAN) with 2 blocks and InstanceNorm" in said
    assert "assumed RGB in [-1, 1], reflected borders, ReLU" in said


def test_options_of_a_file(tmp_path, capsys):
    state = models.build("srvgg", {"channels": 4, "convs": 2, "activation": "relu"}).state_dict()
    torch.save(state, tmp_path / "a.pth")
    assert 'activation="leaky"' in said_of(capsys, tmp_path / "a.pth", "--model-option", "activation=leaky")
    for arguments in (["srvgg", "--model-option", "activation=leaky"], ["--direction", "AtoB"]):
        assert cli.main(["models", *arguments]) == 2
        assert "describe a weights file: give its path as NAME" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.pth", b"", "a.pth: empty file"),
        ("a.pth", b"text", "a.pth: not a weights file"),
        ("a.param", b"7767517\n", "a.param: an ncnn model"),
    ],
)
def test_files_that_are_no_weights(tmp_path, capsys, name, content, words):
    (tmp_path / name).write_bytes(content)
    assert cli.main(["models", str(tmp_path / name)]) == 2
    assert words in capsys.readouterr().err


def test_a_discriminator(tmp_path, capsys):
    torch.save(PatchGAN().state_dict(), tmp_path / "D.pth")
    assert cli.main(["models", str(tmp_path / "D.pth")]) == 2
    assert "D.pth: a discriminator (5 layers, from 3 channels to one logit)" in capsys.readouterr().err


def test_unknown(capsys):
    assert cli.main(["models", "cycelgan"]) == 2
    assert "did you mean 'cyclegan'" in capsys.readouterr().err
